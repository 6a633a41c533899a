"""A built wheel works outside of the clone."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_smim_and_smim_load_work_from_a_built_wheel(tiny_model, tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    [wheel] = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    assert sorted(path.name for path in site.iterdir() if not path.name.endswith(".dist-info")) == ["bin", "smim"]
    assert (site / "smim" / "py.typed").is_file()  # type checkers read our annotations
    page = site / "smim" / "serve" / "page"
    assert (page / "page.css").is_file() and (page / "map.js").is_file()
    code = f"import smim; m = smim.load({str(tiny_model)!r}); print(smim.__file__, m.encode(['a bank lost']).shape)"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    used = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert used.stdout.startswith(str(site)) and used.stdout.endswith("(1, 8)\n")
    command = [sys.executable, str(site / "bin" / "smim"), "reconstruct", str(tiny_model), "a bank lost shares"]
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stderr == "" and shown.stdout.endswith("\n")
