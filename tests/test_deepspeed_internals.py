"""What is used of DeepSpeed's internals, in the versions that it is used of."""

import subprocess
import textwrap
import tomllib
from importlib.metadata import version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from smim.deepspeed_internals import VERSIONS
from tests.training.conftest import BIN, ROOT, environment


def test_they_are_used_in_the_versions_that_may_be_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    [bound] = {r.specifier for group in groups for r in map(Requirement, group) if r.name == "deepspeed"}
    assert bound == SpecifierSet(VERSIONS) and version("deepspeed") in bound


def test_in_the_installed_version_every_stage_takes_the_state_of_one_process_and_gives_it(tmp_path):
    """On two processes, of sizes that they do not divide, for Adam's state of three kinds and SGD's of one."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import copy, torch
        from smim.deepspeed_internals import use_deepspeed_on_cpu
        use_deepspeed_on_cpu()
        import deepspeed
        from accelerate import Accelerator
        from smim.deepspeed_internals import base_optimizer
        from smim.processes import close
        from smim.training.parallel import Replicated, ZeRO

        accelerator = Accelerator(cpu=True)
        deepspeed.init_distributed("gloo")

        class Staged(ZeRO):
            def _prepare(self, module, optimizer):
                config = {"zero_optimization": {"stage": stage}, "train_micro_batch_size_per_gpu": 1}
                config |= {"gradient_clipping": 0.5, "zero_allow_untested_optimizer": True}
                engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=config)
                return engine, base_optimizer(engine)

        def make(kind, model, adam):
            parameters = [p for p in model.parameters() if p.requires_grad]
            optimizer = torch.optim.Adam(parameters, 0.1) if adam else torch.optim.SGD(parameters, 0.1, momentum=0.9)
            return kind(model, model, optimizer, accelerator=accelerator, grad_clip=0.5)

        def train(way):
            for _ in range(2):
                with way.part(last=True):
                    way.backward(way.forward(torch.ones(2, 5)).square().sum())
                way.step()

        def same(first, second):
            assert first.keys() == second.keys() and first
            for key in first:
                torch.testing.assert_close(first[key], second[key])

        torch.manual_seed(0)
        plain = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Linear(3, 1))
        plain[1].bias.requires_grad_(False)
        for adam in (True, False):
            whole = make(Replicated, copy.deepcopy(plain), adam)
            train(whole)
            weights, state = whole.weights(), whole.optimizer_state()
            weights, state = ({key: t.clone() for key, t in each.items()} for each in (weights, state))
            train(whole)
            for stage in (1, 2, 3):
                model = copy.deepcopy(plain)
                model.load_state_dict(weights)
                sharded = make(Staged, model, adam)
                assert sharded.optimizer_state() == {}
                sharded.load_optimizer_state({})
                sharded.load_optimizer_state(state)
                same(sharded.optimizer_state(), state)
                same(sharded.weights(), weights)
                train(sharded)
                same(sharded.weights(), whole.weights())
                same(sharded.optimizer_state(), whole.optimizer_state())
        close(accelerator)  # a thread of the group that is alive at the end of the interpreter aborts the process
        """)
    )
    command = [str(BIN / "torchrun"), "--standalone", "--nproc_per_node", "2", str(script)]
    finished = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr
