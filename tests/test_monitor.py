"""What the ready-made network answers for drawn faces, as they are and as they should not be, beside each other."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from answered import answered
from scipy.stats import binom
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.inference.answer_table import LABEL, REFERENCE, SCHEMA, tabulate
from pipeline.inference.answers import Answered, Look
from pipeline.inference.pointer import Pointer, write_pointer
from pipeline.inference.predictor import Predictor
from pipeline.monitoring.logbook import find_reference, parse_time, read_log
from pipeline.monitoring.monitor import MIX, compare, summarize
from pipeline.params import MonitorParams
from pipeline.sample import draw
from pipeline.serving.answer_log import AnswerLog
from pipeline.vision.transforms import Image, decode, encode

ROOT = Path(__file__).parents[1]
NAME, VERSION = "expression-classifier", "4"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARAMS = MonitorParams(resamples=100)

pytestmark = pytest.mark.filterwarnings("ignore:Series.values returning:Warning")  # pyarrow's own


def answer(images: Sequence[bytes]) -> pd.DataFrame:
    """Return what the ready-made network answers, a face a second from noon on."""
    predictor = Predictor(ROOT / "models" / "ready-made" / "model.onnx", name=NAME, version=VERSION)
    found = [predictor.faces(image, detect=False)[0] for image in images]
    outputs = predictor.outputs(predictor.stack(found))
    rows = [
        Answered(NOON + timedelta(seconds=n), NAME, VERSION, [Look.at(*face, detected=False)], output[None])
        for n, (face, output) in enumerate(zip(found, outputs, strict=True))
    ]
    return tabulate(rows).to_pandas()


@pytest.fixture(scope="module")
def faces() -> tuple[list[bytes], list[str]]:
    """Return drawn faces in random order, and their labels."""
    drawn = [(content, path.split("/")[1]) for path, content in draw("fer2013", 60, seed=3) if path.endswith(".jpg")]
    order = np.random.default_rng(0).permutation(len(drawn))
    return [drawn[n][0] for n in order], [drawn[n][1] for n in order]


@pytest.fixture(scope="module")
def pool(faces: tuple[list[bytes], list[str]]) -> pd.DataFrame:
    """Return the answers for all of them, with their labels."""
    return answer(faces[0]).assign(label=faces[1])


@pytest.fixture(scope="module")
def reference(pool: pd.DataFrame) -> pd.DataFrame:
    return pool[::2]


@pytest.fixture(scope="module")
def window(pool: pd.DataFrame) -> pd.DataFrame:
    return pool[1::2].drop(columns="label")


def save(table: pd.DataFrame, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    schema = SCHEMA.append(LABEL) if "label" in table else SCHEMA
    pq.write_table(pa.Table.from_pandas(table, schema, preserve_index=False), file)
    return file


def darker(face: Image) -> Image:
    return face // 2


def noise(face: Image) -> Image:
    return np.random.default_rng(int(face.sum())).integers(0, 256, face.shape).astype(np.uint8)


def blurred(face: Image) -> Image:
    return cv2.GaussianBlur(face, (0, 0), 3).astype(np.uint8)


def test_nothing_changed_where_nothing_did(window: pd.DataFrame, reference: pd.DataFrame) -> None:
    watched = compare(window, reference, "reference", PARAMS)
    assert watched.drifted == []
    assert (watched.rows, watched.reference_rows) == (len(window), len(reference))
    assert {"width", "height"}.isdisjoint(watched.skipped)
    assert {"score", "embedding_norm"} <= set(watched.skipped)  # nobody looked, and this model has no summary
    assert summarize(watched)[-1] == "no drift"


@pytest.mark.parametrize(
    ("change", "seen"),
    [(darker, {"brightness", "sharpness"}), (blurred, {"sharpness"}), (noise, {"sharpness", "confidence", MIX})],
)
def test_other_pictures_are_seen(
    change: Callable[[Image], Image],
    seen: set[str],
    faces: tuple[list[bytes], list[str]],
    reference: pd.DataFrame,
) -> None:
    changed = answer([encode(change(decode(image))) for image in faces[0][1::2]])
    watched = compare(changed, reference, "reference", PARAMS)
    assert seen <= set(watched.drifted)
    assert ("brightness" in watched.drifted) == (change is not blurred)  # noise is as bright as noise, always


def test_a_label_that_does_not_come_any_more_is_seen(pool: pd.DataFrame, reference: pd.DataFrame) -> None:
    window = pool[1::2].query("emotion != 'happy'").drop(columns="label")
    assert MIX in compare(window, reference, "reference", PARAMS).drifted


# From how many faces on a window without a label is called changed 19 times of 20, as docs/serving.md says.
SEEN_FROM = {"happy": 100, "surprise": 200, "neutral": 200, "sad": 300, "angry": 300, "fear": 600, "disgust": 6000}


@pytest.mark.parametrize(("label", "size"), SEEN_FROM.items())
def test_each_label_that_is_gone_among_real_faces_is_seen(label: str, size: int) -> None:
    known = read_log(ROOT / "models" / "ready-made" / REFERENCE)
    reference = known.sample(frac=1, replace=True, random_state=1)
    unchanged = known.sample(size, replace=True, random_state=2).drop(columns="label")
    assert compare(unchanged, reference, "reference", PARAMS).drifted == []
    window = known[known.label != label].sample(size, replace=True, random_state=0).drop(columns="label")
    watched = compare(window, reference, "reference", PARAMS)
    assert f"share of {label}" in watched.drifted
    assert f"changed: share of {label} (share lost 0." in "\n".join(summarize(watched))


def test_less_sure_answers_are_an_accuracy_that_is_lost(window: pd.DataFrame, reference: pd.DataFrame) -> None:
    flat = [0.6 * row + 0.4 / 7 for row in window.probabilities]
    watched = compare(
        window.assign(probabilities=flat, confidence=[row.max() for row in flat]), reference, "reference", PARAMS
    )
    assert "estimated accuracy" in watched.drifted
    before = compare(window, reference, "reference", PARAMS).estimated["accuracy"]
    assert watched.estimated["accuracy"].upper < before.lower


@pytest.mark.slow
def test_false_alarms_over_real_answers_are_as_rare_as_alpha_says(pool: pd.DataFrame) -> None:
    params, rounds = MonitorParams(alpha=0.05, psi=0, accuracy_drop=0, resamples=100), 200
    alarms = 0
    for seed in range(rounds):
        drawn = pool.sample(350, replace=True, random_state=seed)
        alarms += bool(compare(drawn[:100].drop(columns="label"), drawn[100:], "reference", params).drifted)
    assert alarms <= binom.ppf(0.999, rounds, params.alpha)


def test_an_earlier_log_serves_as_reference(window: pd.DataFrame, reference: pd.DataFrame) -> None:
    earlier = reference.drop(columns="label")
    others = earlier.assign(version="3", brightness=0)
    watched = compare(window, pd.concat([earlier, others]), "log", PARAMS)
    assert (watched.drifted, watched.known, watched.reference_rows) == ([], None, len(earlier))
    with pytest.raises(PipelineError, match=r"the reference log has 0 answers of .* version 4, too few"):
        compare(window, others, "log", PARAMS)


def test_answers_of_other_versions_are_left_out_and_counted(window: pd.DataFrame, reference: pd.DataFrame) -> None:
    former = window.assign(version="3", brightness=0, time=window.time - timedelta(days=1))
    watched = compare(pd.concat([former, window]), reference, "reference", PARAMS)
    assert (watched.drifted, watched.rows, watched.others) == ([], len(window), len(former))
    assert f"{len(former)} answers of other versions are left out" in summarize(watched)


def test_a_log_is_read_from_one_time_to_another(window: pd.DataFrame, tmp_path: Path) -> None:
    half = len(window) // 2
    save(window[half:], tmp_path / "2026-03-01" / "b.parquet")
    save(window[:half], tmp_path / "2026-03-01" / "c.parquet")
    (tmp_path / "2026-03-01" / ".a.parquet.1.partial").write_bytes(b"half")
    assert read_log(tmp_path).time.to_list() == window.time.to_list()
    since, until = window.time.iloc[10], window.time.iloc[20]
    assert len(read_log(tmp_path, since, until)) == 10
    assert len(read_log(tmp_path, until=until)) == 20
    assert read_log(tmp_path, since=window.time.max() + timedelta(days=1)).empty


def test_times_are_ages_and_dates() -> None:
    assert parse_time(None) is None
    age = datetime.now(UTC) - (parse_time("36h") or NOON)
    assert age == pytest.approx(timedelta(hours=36), abs=timedelta(minutes=1))
    assert parse_time("2026-03-01T12:00") == parse_time("2026-03-01T13:00+01:00") == NOON
    for wrong in ("yesterday", "7", "7w", "2026-13-01", "999999999999d"):
        with pytest.raises(PipelineError, match="is no time: say 24h"):
            parse_time(wrong)


def test_the_reference_lies_beside_the_model_that_answered(
    window: pd.DataFrame, reference: pd.DataFrame, tmp_path: Path
) -> None:
    pointer_file = tmp_path / "champion.json"
    with pytest.raises(PipelineError, match=r"version 4 answered for validation faces is not known"):
        find_reference(pointer_file, window)
    former = save(reference, tmp_path / "registry" / NAME / "4-aaaa" / REFERENCE)
    assert find_reference(pointer_file, window) == former  # also when another one is champion by now
    champion = save(reference, tmp_path / "registry" / NAME / "4-bbbb" / REFERENCE)
    with pytest.raises(PipelineError, match="2 folders in .* may be meant"):
        find_reference(pointer_file, window)
    write_pointer(pointer_file, Pointer(NAME, "4", f"registry/{NAME}/4-bbbb/model.onnx", "0" * 64))
    assert find_reference(pointer_file, window) == champion


@pytest.fixture
def workplace(window: pd.DataFrame, reference: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a log, the reference beside the champion, and the parameters."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    save(window, Path("log/2026-03-01/a.parquet"))
    save(reference, Path(f"models/registry/{NAME}/4-aaaa") / REFERENCE)
    write_pointer(Path("models/champion.json"), Pointer(NAME, "4", f"registry/{NAME}/4-aaaa/model.onnx", "0" * 64))
    return tmp_path


def test_the_command_tells_by_its_exit_code_and_leaves_a_page(workplace: Path, window: pd.DataFrame) -> None:
    done = CliRunner().invoke(app, ["monitor", "log"])
    assert done.exit_code == 0, done.output
    assert "no drift" in done.output
    page, numbers = Path("reports/monitor.html").read_text(), json.loads(Path("reports/monitor.json").read_text())
    assert "no drift" in page
    assert "://" not in page
    assert "<script" not in page
    assert (numbers["drift"], numbers["rows"], numbers["params"]["alpha"]) == (False, len(window), 0.01)
    save(window.assign(brightness=window.brightness / 2), Path("dark/a.parquet"))
    done = CliRunner().invoke(app, ["monitor", "dark", "--to", "out/dark.html"])
    assert done.exit_code == 1
    assert "changed: brightness (PSI " in done.output
    assert json.loads(Path("out/dark.json").read_text())["changed"] == ["brightness"]
    assert '<div class="card changed"><h3>brightness' in Path("out/dark.html").read_text()


def break_log() -> None:
    Path("log/2026-03-01/a.parquet").write_bytes(b"PAR1 half")


def other_table() -> None:
    pd.DataFrame({"x": [1]}).to_parquet("log/2026-03-01/a.parquet")


@pytest.mark.parametrize(
    ("before", "arguments", "words"),
    [
        (None, ["nix"], "nix is missing, damaged, or no log of predictions"),
        (lambda: Path("empty").mkdir(), ["empty"], "there is no log in empty: FER_PREDICTIONS_LOG names the folder"),
        (break_log, ["log"], "a.parquet is missing, damaged, or no log of predictions"),
        (other_table, ["log"], "a.parquet is missing, damaged, or no log of predictions"),
        (None, ["log", "--since", "1m"], "the log has no answers in this window"),
        (None, ["log", "--until", "2026-03-01T12:00:30"], "too few to compare (monitor.minimum_rows: 50)"),
        (None, ["log", "--since", "soon"], "'soon' is no time"),
        (None, ["log", "--reference", "nix.parquet"], "nix.parquet is missing"),
        (None, ["log", "--to", "page.json"], "page.json can not be the page"),
        (None, ["log", "--to", "params.yaml/page.html"], "page.html can not be written"),
        (None, ["log", "--params", "nix.yaml"], "nix.yaml can not be read"),
    ],
)
def test_what_can_not_be_told_is_a_sentence_and_exit_code_2(
    workplace: Path, before: Callable[[], None] | None, arguments: list[str], words: str
) -> None:
    if before:
        before()
    done = CliRunner().invoke(app, ["monitor", *arguments])
    assert done.exit_code == 2, done.output
    assert done.output.startswith("error: ")
    assert len(done.output.splitlines()) == 1
    assert words in done.output
    assert not Path("reports").exists()


def test_a_log_that_was_written_by_a_service_can_be_compared(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path)
    for _ in range(60):
        log.add(answered(2, summary=5))  # always the same two
    log.close()
    rows = read_log(tmp_path)
    watched = compare(rows[60:], rows[:60], str(tmp_path), PARAMS)
    assert watched.drifted == []
    assert watched.skipped == []
