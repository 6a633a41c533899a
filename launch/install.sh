#!/bin/sh
# Makes a virtual environment with the tested versions: sh launch/install.sh [VENV]
#
# PyPI's torch for Linux brings several GB of CUDA libraries. Where pip is set up with a local wheel
# of torch, that one is taken; on a machine without an NVIDIA GPU, the CPU build of pytorch.org;
# else PyPI's. SMIM_EXTRAS chooses the extras.
set -eu
venv=${1:-.venv}
extras=${SMIM_EXTRAS:-pipeline,serve,hub,dev}
torch=$(sed -n 's/^torch==//p' constraints.txt)

exec 3>&2
clock=
stop_clock() {
    [ -z "$clock" ] || { kill "$clock" 2>/dev/null && printf '\r\033[K' >&3; }
    clock=
}
trap stop_clock EXIT
trap 'exit 130' INT TERM
# Runs a command; on a terminal its name and its seconds so far are shown: step NAME COMMAND...
step() {
    name=$1
    shift
    if [ -t 3 ]; then
        (
            seconds=0
            while printf '\r%s, %s s' "$name" "$seconds" >&3 && sleep 1; do seconds=$((seconds + 1)); done
        ) &
        clock=$!
    fi
    status=0
    "$@" || status=$?
    stop_clock
    return $status
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: Python 3.11 or newer is needed, python3 is $(python3 --version 2>&1)" >&2
    exit 2
}
echo "installing into $venv (one to five minutes; a second run reuses it)"
# Also where one is there that was left without pip.
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || step "making the environment" python3 -m venv "$venv" || {
    echo "error: python3 could not make an environment in $venv; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 2
}
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check"
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    if step "looking for a local wheel of torch $torch" $pip --no-index --no-deps "torch==$torch" 2>/dev/null; then
        echo "torch $torch from a local wheel"
    elif ! command -v nvidia-smi >/dev/null && [ "$(uname)" = Linux ]; then
        step "fetching the CPU build of torch $torch (200 MB)" \
            $pip --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==$torch" ||
            echo "the CPU build of torch could not be had; taking PyPI's"
    fi
fi
# uv installs in a quarter of pip's time; where it cannot (an index that only pip is set up for), pip does.
if ! { step "installing uv" $pip -c constraints.txt uv 2>/dev/null &&
    step "installing the other packages" env "VIRTUAL_ENV=$venv" \
        "$venv/bin/uv" pip install --quiet --no-cache -c constraints.txt -e ".[$extras]"; }; then
    step "installing the other packages with pip" $pip -c constraints.txt -e ".[$extras]"
fi
