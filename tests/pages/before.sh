# What the commands of docs/ read, made by such commands. The files are made by tests/test_documented_commands.py.
python data_prep/build.py corpus=demo output=demo/corpus
smim train experiment=demo_smim corpus.dir=demo/corpus run.dir=demo/smim use.answers=true
smim index build demo/smim/model demo/corpus -o demo/index --split test
smim prepare corpus.name=mine corpus.path=mine.txt
smim prepare corpus.name=reviews corpus.path=reviews.csv corpus.text_column=review 'corpus.label_columns=[stars]'
smim train corpus.dir=data/mine run.dir=runs/mine
python data_prep/build.py corpus=ptb corpus.path=$SMIM_DATA/ptb
smim train corpus.dir=data/ptb model.latent_dim=16 run.dir=runs/ptb_svae_16
python eval/run.py model.dir=runs/ptb_svae_16/model corpus.dir=data/ptb
cp -r runs/mine runs/reviews
mkdir runs/ptb_smim_512 runs/ptb_amim_512
cp -r runs/ptb_svae_16/model runs/ptb_smim_512
cp -r runs/ptb_svae_16/model runs/ptb_amim_512
cp -r demo/corpus data/demo
head -9 mine.txt > questions.txt
echo '{"text": "the cook washed the pan .", "topic": "cooking"}' > new.jsonl
echo '{"id": 17, "text": "the cook washed the pot ."}' > corrected.jsonl
zcat $SMIM_DATA/tatoeba/tatoeba.en.txt.gz > tatoeba-model.txt
head -300 tatoeba-model.txt | tee tatoeba-judge.txt tatoeba-1200.txt tatoeba-heldout.txt tatoeba-test.txt mrpc-3000.txt > stsb-dev.txt
tail -1000 tatoeba-model.txt > judged.txt
smim judge make judged.txt --vocabulary-size 500 -o judges/everyday
smim prepare corpus.name=tatoeba corpus.path=tatoeba-1200.txt output=data/tatoeba
smim train corpus.dir=data/tatoeba run.dir=runs/tatoeba
smim prepare corpus.name=english corpus.path=tatoeba-1200.txt corpus.tokenizer.dir=english-small output=data/english
smim teach data/mine --teacher teacher
smim prepare corpus.name=pairs corpus.path=paraphrases.tsv corpus.text_column=first corpus.pair_column=second
python data_prep/build.py corpus=gmm
python smim/train.py corpus=gmm model=mlp objective=mim train=vectors
mkdir semantic
for set in stsb-dev stsb-test; do zcat $SMIM_DATA/semantic/$set.tsv.gz | sed -n 1,50p | gzip > semantic/$set.tsv.gz; done
cp semantic/stsb-test.tsv.gz .
printf '[[keys]]\nname = "editor"\nkey = "%s"\nrights = ["read", "write"]\n' "$KEY" > keys.toml
chmod 600 keys.toml
cat > mine.yaml <<END
output: pipeline
prepare: {corpus: {path: mine.txt}}
train: {train: {max_steps: 3, trackers: []}, model: {latent_dim: 16}}
END
