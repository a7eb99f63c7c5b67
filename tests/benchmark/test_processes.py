"""Several processes that train together."""

import time
from pathlib import Path

from toy_rows import same, together


def test_a_process_is_killed_and_others_go_on_to_what_one_alone_comes_to(whole: Path, tmp_path: Path):
    """Two processes of DistributedDataParallel, one killed amid an epoch; two of FSDP take up the checkpoint."""
    often = {"save_every": 0.0}
    pair = together(tmp_path, 2, setup=often, pause=0.2)
    seen, late = tmp_path / "seen", time.monotonic() + 90
    while time.monotonic() < late and not (seen.exists() and seen.read_text() >= "0 1 2"):
        time.sleep(0.02)
    pair[1].kill()
    output, errors = pair[0].communicate(60)
    assert pair[0].returncode == 1 and "another process of this training has gone" in errors
    assert pair[1].communicate(10) and not list(tmp_path.glob("*.jsonl"))
    for process in together(tmp_path, 2, setup=often | {"divided": True}):
        output, errors = process.communicate(90)
        assert process.returncode == 0, errors
    same(whole, tmp_path, 1e-5)
