# Functions in the place of programs, for tests/test_documented_commands.py: they shorten a command, or leave it out.
set -euo pipefail
shorten() {
    for word in "$@"; do  # a run that was there before
        case "$word $*" in run.dir=*train.resume=auto*) ;; run.dir=*) rm -rf "${word#run.dir=}";; esac
    done
    case $1 in
        train) more=(train.max_steps=3 train.trackers=[]);;
        prepare) more=(prep.workers=1);;
        evaluate) more=(eval.max_sentences=20 eval.num_runs=1 eval.semantics.max_decoded=5
            eval.generativity.num_sentences=20 eval.generativity.least_cosine=-1 eval.generativity.most_cosine=1);;
        figures) more=(train.max_steps=3 figure.seeds=1 figures.workers=1);;
        *) more=();;
    esac
}
run() {
    command python "$@" 2> problem && { cat problem >&2; return; }
    cat problem >&2
    held=$(sed -n 's/^error: \(.*\) already holds a run;.*/\1/p' problem)  # a page shows several ways to train a model
    [[ -n $held ]] && rm -rf "$held" && command python "$@"
}
smim() {
    shorten "$@"
    case "$*" in
        *--shards*|*"--engine ray"*) return;;
        serve*) serve "${@:2}"; return;;
        adapt*) more=(--minutes 0.1);;
        "index build"*) more=(--force);;
        "tzk fit"*|"tzk add"*|"tzk images fit"*|"tzk images add"*) more=(--num-optimizer-steps 10);;
        "judge make"*) rm -rf judges; more=(--vocabulary-size 500);;
    esac
    run -m smim "$@" "${more[@]}"
}
python() {
    case "$*" in
        *engine=ray*|*wordnet*|benchmarks*|"-m pytest"*|eval/meaning.py*|eval/pages.py|*--cfg*) return;;
        docs/examples/mteb*|docs/examples/langchain*|docs/examples/haystack*|docs/examples/vector*) return;;
        smim/train.py*) shorten train "$@";;
        data_prep/build.py*) shorten prepare;;
        eval/run.py*) shorten evaluate;;
        eval/figures.py*) shorten figures;;
        *) shorten other;;
    esac
    run "$@" "${more[@]}"
}
accelerate() {
    shift
    while [[ $1 == --* ]]; do shift 2; done
    python "$@"
}
serve() {
    if [[ -n ${server-} ]]; then kill $server; wait $server || true; fi
    command python -m smim serve "$@" --port $PORT --keys keys.toml > served & server=$!
    until grep -q "serving on" served; do kill -0 $server; sleep 0.5; done
}
curl() { command curl --fail-with-body "$@"; }
for left_out in pip sbatch docker make kubectl nvidia-cuda-mps-control source; do eval "$left_out() { :; }"; done
trap 'if [[ -n ${server-} ]]; then kill $server; fi' EXIT
