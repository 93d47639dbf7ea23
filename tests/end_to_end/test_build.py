import json
from pathlib import Path

import polars as pl
import pytest

from tests.end_to_end.conftest import MIXTURE, Built, Curate

pytestmark = pytest.mark.slow


def tree(folder: Path) -> dict[str, bytes]:
    """Every file's bytes; of manifests all but the time of creation."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = json.loads(files["manifest.json"])
    del manifest["created"]
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def test_ray_and_a_single_process_give_the_same_bytes(curate: Curate, built: Built, tmp_path: Path) -> None:
    done = curate("build", MIXTURE, root=tmp_path / "lake", CURATION_RUNTIME="ray")
    assert done.returncode == 0, done.stderr
    release = Path(done.stdout.strip().splitlines()[-1])
    assert release.name == built.release.name
    assert tree(release) == tree(built.release)


def test_killed_builds_end_in_the_same_bytes(curate: Curate, built: Built, tmp_path: Path) -> None:
    root = tmp_path / "lake"

    def seen(pattern: str, number: int) -> bool:
        return len(list(root.glob(pattern))) >= number

    kills = [
        curate.kill_when(lambda: seen("sources/*/*/samples-*.parquet", 2), "build", MIXTURE, root=root),
        curate.kill_when(lambda: seen("sources/*/*/images-*.tar", 6), "build", MIXTURE, root=root),
        curate.kill_when(lambda: seen("signatures/*/*/*.parquet", 9), "build", MIXTURE, root=root),
        curate.kill_when(lambda: seen("releases/demo/*/shards/*.tar", 2), "build", MIXTURE, root=root),
    ]
    assert any(kills)
    done = curate("build", MIXTURE, root=root)
    assert done.returncode == 0, done.stderr
    release = Path(done.stdout.strip().splitlines()[-1])
    assert tree(release) == tree(built.release)
    assert not list((root / "work").iterdir())


def test_a_second_build_writes_nothing_but_its_log(curate: Curate, built: Built) -> None:
    def times() -> dict[Path, int]:
        files = [path for path in built.root.rglob("*") if path.is_file() and path.suffix != ".lock"]
        return {path: path.stat().st_mtime_ns for path in files if path.parent != built.root / "runs"}

    before = times()
    done = curate("build", MIXTURE, root=built.root)
    assert done.stdout.strip().splitlines()[-1] == str(built.release)
    assert times() == before


def test_counts_agree_everywhere(built: Built) -> None:
    manifest = json.loads((built.release / "manifest.json").read_bytes())
    verdicts = pl.read_parquet(built.release / "verdicts.parquet")
    index = pl.read_parquet(built.release / "index.parquet")
    for source, counts in manifest["conservation"].items():
        rejected = pl.read_parquet(list((built.root / "sources" / source).glob("*/rejected-*.parquet")))
        assert counts["records"] == counts["samples"] + len(rejected)
        assert counts["samples"] == counts["kept"] + sum(counts["dropped"].values())
        assert counts["samples"] == verdicts.filter(source=source).height
    kept = verdicts.filter(verdict="keep")
    assert set(kept["sample_id"]) == set(index["sample_id"])
    assert kept["reason"].null_count() == len(kept)
    assert verdicts.filter(verdict="drop")["reason"].null_count() == 0
    assert manifest["num_samples"] == len(index) == sum(shard["num_samples"] for shard in manifest["shards"])


def test_a_changed_cap_redoes_planning_and_shards_only(curate: Curate, built: Built, tmp_path: Path) -> None:
    edited = tmp_path / "edited.yaml"
    edited.write_text(Path(MIXTURE).read_text().replace("cap: 60", "cap: 58"))

    def artefacts() -> dict[Path, int]:
        kinds = ("sources", "signatures", "pools")
        return {path: path.stat().st_mtime_ns for kind in kinds for path in (built.root / kind).rglob("*")}

    before = artefacts()
    done = curate("build", str(edited), root=built.root)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip().splitlines()[-1]) != built.release
    assert artefacts() == before
    curate("build", MIXTURE, root=built.root)  # the demo's own mixture is the latest again


def test_verify_holds_and_a_flipped_byte_does_not(curate: Curate, built: Built) -> None:
    assert curate("verify", str(built.release)).returncode == 2  # no root there
    assert curate("verify", str(built.release), root=built.root).returncode == 0
    shard = next((built.release / "shards").glob("*.tar"))
    whole = shard.read_bytes()
    try:
        shard.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
        done = curate("verify", str(built.release), "--json", root=built.root)
        assert done.returncode == 1
        assert shard.name in json.loads(done.stdout)["problems"][0]
    finally:
        shard.write_bytes(whole)


def test_a_root_that_cannot_be_written_is_one_paragraph(curate: Curate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    done = curate("build", MIXTURE, root=tmp_path / "file" / "lake")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
