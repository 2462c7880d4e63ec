"""One interface over all formats: round trips, blocks, refusals, whole-or-nothing, memory."""

from __future__ import annotations

import gzip
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dgex.data.formats import reader
from dgex.data.matrix import create_matrix, matrix_ending, open_matrix
from dgex.errors import DataError, UsageError

NAMES = [
    "m.gctx",
    "m.gct",
    "m.gct.gz",
    "m.h5ad",
    "m.tsv",
    "m.tsv.gz",
    "m.txt",
    "m.csv",
    "m.csv.gz",
    "m.parquet",
    "m.npy",
]
FREE_ORIENTATION = (".tsv", ".txt", ".csv", ".parquet")

# Any text a table can hold in one cell; no control characters, no byte order mark.
WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), max_size=8
).map(lambda text: f"x{text}")


@st.composite
def matrices(draw):
    n, g = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    width = int(dtype[-2:])
    numbers = st.floats(width=width, allow_infinity=False, allow_nan=True)
    x = draw(hnp.arrays(dtype, (n, g), elements=numbers))
    tables = []
    for length in (n, g):
        ids = draw(st.lists(WORDS, min_size=length, max_size=length, unique=True))
        words = draw(st.lists(st.one_of(st.none(), WORDS), min_size=length, max_size=length))
        reals = draw(
            st.lists(
                st.one_of(st.just(np.nan), st.floats(-600, 600)),
                min_size=length,
                max_size=length,
            )
        )
        whole = draw(st.lists(st.integers(-600, 10**12), min_size=length, max_size=length))
        tables.append(
            pd.DataFrame(
                {
                    "name": pd.Series(words, dtype=object, index=ids),
                    "weight": pd.Series(reals, dtype="float64", index=ids),
                    "count": pd.Series(whole, dtype="int64", index=ids),
                }
            )
        )
    return x, tables[0], tables[1]


def write(path, x, obs, var, **options):
    with create_matrix(path, obs, var, dtype=x.dtype.name, **options) as out:
        half = len(x) // 2
        out.write(x[:half])
        out.write(x[half:])
    return path


def fill(path, obs, var, blocks):
    with create_matrix(path, obs, var) as out:
        for block in blocks:
            out.write(block)


def small(n=5, g=4, dtype="float64"):
    x = np.random.default_rng(0).normal(size=(n, g)).astype(dtype)
    obs = pd.DataFrame(index=[f"sample {i}" for i in range(n)])
    var = pd.DataFrame(index=[f"g{i}_at" for i in range(g)])
    return x, obs, var


def same_column(read, written):
    """Equal as values: missing where missing, else equal; numbers still numbers."""
    gone = pd.isna(pd.Series(written)).to_numpy()
    assert pd.isna(read).tolist() == gone.tolist()
    assert [v for v, m in zip(read, gone, strict=True) if not m] == [
        v for v, m in zip(written, gone, strict=True) if not m
    ]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(content=matrices(), data=st.data())
def test_write_then_read_is_the_identity(tmp_path_factory, name, content, data):
    x, obs, var = content
    path = tmp_path_factory.mktemp("round") / name
    options = {}
    if matrix_ending(path) in FREE_ORIENTATION:
        options["orientation"] = data.draw(
            st.sampled_from(["genes-by-samples", "samples-by-genes"])
        )
    write(path, x, obs, var, **options)
    with open_matrix(path, **options) as m:
        assert m.shape == x.shape
        np.testing.assert_array_equal(m.rows(0, len(x)).astype(x.dtype), x)
        assert m.obs.index.tolist() == obs.index.tolist()
        assert m.var.index.tolist() == var.index.tolist()
        assert (m.obs.index.name, m.var.index.name) == ("sample", "gene")
        keeps_both = matrix_ending(path) in (".gctx", ".gct", ".h5ad")
        for read, written, axis in ((m.obs, obs, "samples"), (m.var, var, "genes")):
            along = str(options.get("orientation", "")).startswith(axis)
            if keeps_both or (along and name == "m.parquet"):
                for column in written.columns:
                    same_column(read[column], written[column])
                assert read["count"].dtype.kind == "i"
                assert read["weight"].dtype == "float64"
            elif along and written["name"].notna().any():
                assert read.columns.tolist() == ["name"]
                same_column(read["name"], written["name"])
            else:
                assert read.columns.tolist() == []
    assert sorted(p.name for p in path.parent.iterdir() if "partial" in p.name) == []


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_blocks_rows_and_take_agree(tmp_path_factory, name, data):
    n = data.draw(st.integers(1, 30))
    x, obs, var = small(n, 3)
    path = write(tmp_path_factory.mktemp("blocks") / name, x, obs, var)
    with open_matrix(path) as m:
        step = data.draw(st.integers(1, n + 2))
        parts = list(m.blocks(step))
        assert [start for start, _ in parts] == list(range(0, n, step))
        np.testing.assert_array_equal(np.concatenate([b for _, b in parts]), x)
        np.testing.assert_array_equal(np.concatenate([b for _, b in m.blocks()]), x)
        rows = sorted(data.draw(st.lists(st.integers(0, n - 1), max_size=12)))
        np.testing.assert_array_equal(m.take(rows), x[rows])
        start = data.draw(st.integers(0, n))
        np.testing.assert_array_equal(m.rows(start, n), x[start:])
        with pytest.raises(IndexError):
            m.rows(0, n + 1)


def test_rows_are_float32_or_float64_as_the_file_is(tmp_path):
    for name in ("a.gctx", "a.h5ad", "a.npy", "a.parquet"):
        for dtype in ("float32", "float64"):
            x, obs, var = small(dtype=dtype)
            with open_matrix(write(tmp_path / name, x, obs, var, overwrite=True)) as m:
                assert m.rows(0, 1).dtype == m.dtype == dtype


def test_default_blocks_hold_whole_chunks(tmp_path, monkeypatch):
    x, obs, var = small(100, 4)
    with h5py.File(write(tmp_path / "a.gctx", x, obs, var), "r+") as file:
        del file["0/DATA/0/matrix"]
        file["0/DATA/0"].create_dataset("matrix", data=x, chunks=(8, 4), compression="gzip")
    monkeypatch.setattr(reader, "BLOCK_BYTES", 20 * 4 * 8)
    with open_matrix(tmp_path / "a.gctx") as m:
        starts = [start for start, _ in m.blocks()]
        assert starts == list(range(0, 100, 16))
        np.testing.assert_array_equal(m.take([0, 7, 8, 9, 50, 99]), x[[0, 7, 8, 9, 50, 99]])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_after_an_error(tmp_path, name):
    x, obs, var = small()
    path = tmp_path / name
    wrong = [
        ([x[:2]], "2 of 5 rows came"),
        ([x, x[:1]], "6 rows came for 5 samples"),
        ([x[:, :3]], r"shape \(5, 3\) came for 4 genes"),
        ([x[0]], r"shape \(4,\) came for 4 genes"),
        ([x[:2], np.where(x == x[3, 2], np.inf, x)[2:]], "sample 3, gene g2_at is infinite"),
    ]
    for blocks, message in wrong:
        with pytest.raises(DataError, match=message):
            fill(path, obs, var, blocks)
    with pytest.raises(ZeroDivisionError):
        fill(path, obs, var, (x[:2] / (1 // len(part)) for part in (x[:1], [])))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_an_existing_file_is_kept_unless_told(tmp_path, name):
    x, obs, var = small()
    path = write(tmp_path / name, x, obs, var)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        create_matrix(path, obs, var)
    with pytest.raises(RuntimeError), create_matrix(path, obs, var, overwrite=True):
        raise RuntimeError
    assert path.read_bytes() == before
    write(path, x + 1, obs, var, overwrite=True)
    with open_matrix(path) as m:
        np.testing.assert_array_equal(m.rows(0, 5), x + 1)


def test_a_value_beyond_float32_is_refused(tmp_path):
    _, obs, var = small()
    with pytest.raises(DataError, match="infinite"):
        fill(tmp_path / "a.gctx", obs, var, [np.full((5, 4), 1e300)])


def test_writing_needs_the_with_statement(tmp_path):
    x, obs, var = small()
    with pytest.raises(UsageError, match="not open"):
        create_matrix(tmp_path / "a.gctx", obs, var).write(x)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.docx", {}, r"no ending of a matrix format. Known are \.gctx \.gct \.h5ad"),
        ("a.gctx.gz", {}, "no ending of a matrix format"),
        ("a.gctx", {"version": "1.2"}, "takes no version"),
        ("a.gct", {"compression": "gzip"}, "takes no compression"),
        ("a.npy", {"orientation": "samples-by-genes"}, "takes no orientation"),
        ("a.gct", {"version": "1.1"}, "1.2 or 1.3, not 1.1"),
        ("a.tsv", {"orientation": "sideways"}, "genes-by-samples or samples-by-genes"),
        ("a.parquet", {"orientation": "sideways"}, "genes-by-samples or samples-by-genes"),
        ("a.h5ad", {"dtype": "int8"}, "float32 or float64, not int8"),
    ],
)
def test_create_refuses_what_does_not_fit(tmp_path, name, options, message):
    _, obs, var = small()
    with pytest.raises(UsageError, match=message):
        create_matrix(tmp_path / name, obs, var, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_create_refuses_bad_ids(tmp_path, name):
    _, obs, var = small(7, 4)
    twice = obs.set_axis(["a", "a", "b", "b", "c", "d", "e"])
    with pytest.raises(DataError, match=r"2 sample ids occur more than once \(a, b\)"):
        create_matrix(tmp_path / name, twice, var)
    with pytest.raises(DataError, match=r"1 of 4 gene ids are empty \(number 2"):
        create_matrix(tmp_path / name, obs, var.set_axis(["a", " ", "b", "c"]))
    with pytest.raises(DataError, match="would be empty: 0 samples and 4 genes"):
        create_matrix(tmp_path / name, obs[:0], var)
    two = pd.DataFrame(np.ones((7, 2)), index=obs.index, columns=["u", "u"])
    with pytest.raises(DataError, match=r"columns occur more than once \(u\)"):
        create_matrix(tmp_path / name, two, var)


CONTENTS = {
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "gzip": gzip.compress(b"gene\ts1\na\t1\n"),
    "parquet": b"PAR1" + bytes(64) + b"PAR1",
    "npy": b"\x93NUMPY\x01\x00" + bytes(64),
    "zip": b"PK\x03\x04" + bytes(64),
    "text": b"gene,s1\na,1\n",
    "empty": b"",
    "gct": b"#1.2\n1\t1\nName\tDescription\ts1\na\tb\t1\n",
    "binary": bytes(range(256)),
}
REFUSALS = [
    (name, kind)
    for name in NAMES
    for kind in CONTENTS
    if not (kind == "hdf5" and name in ("m.gctx", "m.h5ad"))
    and not (kind == "text" and name in ("m.tsv", "m.txt", "m.csv"))
    and not (kind == "gct" and name == "m.gct")
    and not (kind == "gzip" and name in ("m.tsv.gz", "m.csv.gz"))
]


@pytest.mark.parametrize(("name", "kind"), REFUSALS)
def test_a_file_that_is_not_what_its_name_says(tmp_path, name, kind):
    path = tmp_path / name
    path.write_bytes(CONTENTS[kind])
    with pytest.raises(DataError) as caught:
        open_matrix(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message


@pytest.mark.parametrize("name", NAMES)
def test_a_file_cut_off_anywhere_is_refused(tmp_path, name):
    x, obs, var = small(60, 50, "float64")
    whole = write(tmp_path / name, x, obs, var).read_bytes()
    for share in (0.999, 0.9, 0.5, 0.1):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError) as caught, open_matrix(tmp_path / name) as m:
            m.rows(0, 60)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_an_infinite_value_is_named(tmp_path, name):
    x, obs, var = small()
    path = write(tmp_path / name, np.where(x == x[3, 2], 12345.5, x), obs, var)
    if path.suffix == ".gz":
        path.write_bytes(
            gzip.compress(gzip.decompress(path.read_bytes()).replace(b"12345.5", b"inf"))
        )
    elif name in ("m.gct", "m.tsv", "m.txt", "m.csv"):
        path.write_bytes(path.read_bytes().replace(b"12345.5", b"inf"))
    elif name == "m.parquet":
        frame = pd.read_parquet(path)
        frame.iloc[3, 2] = np.inf
        frame.to_parquet(path)
    elif name == "m.npy":
        values = np.load(path)
        values[3, 2] = np.inf
        np.save(path, values)
    else:
        with h5py.File(path, "r+") as file:
            file["X" if name == "m.h5ad" else "0/DATA/0/matrix"][3, 2] = np.inf
    with open_matrix(path) as m:
        np.testing.assert_array_equal(m.rows(0, 3), x[:3])
        with pytest.raises(DataError, match=r"sample 3, gene g2_at is infinite"):
            m.rows(2, 5)


def test_missing_files_folders_and_endings(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.gct does not exist"):
        open_matrix(tmp_path / "nowhere.gct")
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        open_matrix(tmp_path / "folder.tsv")
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(DataError, match=r"Known are \.gctx \.gct \.h5ad \.tsv"):
        open_matrix(str(tmp_path / "notes.docx"))


def test_orientation_is_for_formats_that_do_not_say(tmp_path):
    x, obs, var = small()
    for name in ("a.gctx", "a.gct", "a.h5ad", "a.npy"):
        path = write(tmp_path / name, x, obs, var)
        with pytest.raises(UsageError, match="says itself which way round"):
            open_matrix(path, orientation="genes-by-samples")
    with pytest.raises(UsageError, match="not sideways"):
        open_matrix(tmp_path / "a.gctx", orientation="sideways")


def test_writing_is_reproducible(tmp_path):
    x, obs, var = small()
    for name in ("a.gctx", "a.gct.gz", "a.tsv.gz", "a.npy", "a.parquet"):
        first = write(tmp_path / name, x, obs, var).read_bytes()
        assert write(tmp_path / name, x, obs, var, overwrite=True).read_bytes() == first


FULL_DISK = """
import resource, sys
import numpy as np, pandas as pd
from pathlib import Path
from dgex.data.matrix import create_matrix
from dgex.errors import DataError

folder = Path(sys.argv[1])
x = np.random.default_rng(0).normal(size=(400, 1000))
obs = pd.DataFrame(index=[f"s{i}" for i in range(400)])
var = pd.DataFrame(index=[f"g{i}" for i in range(1000)])
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
for name in sys.argv[2:]:
    options = {"compression": "gzip"} if name.startswith("zipped") else {}
    try:
        with create_matrix(folder / name, obs, var, dtype="float64", **options) as out:
            for start in range(0, 400, 50):
                out.write(x[start : start + 50])
    except DataError as error:
        assert "disk is full" in str(error) and name in str(error), str(error)
        assert "\\n" not in str(error)
    else:
        raise SystemExit(f"{name} was written beyond the limit")
    assert list(folder.iterdir()) == [], list(folder.iterdir())
"""


def test_a_full_disk_leaves_nothing(tmp_path):
    (tmp_path / "out").mkdir()
    names = [*NAMES, "zipped.gctx", "zipped.h5ad"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path / "out"), *names],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("ending", ["gctx", "h5ad"])
@pytest.mark.parametrize("room", [0, 500, 3_000, 9_000, 20_000, 60_000])
def test_a_disk_that_is_full_from_the_start_leaves_nothing(tmp_path, room, ending):
    """HDF5 goes to and fro in the file, and what is buffered may fail wherever it goes."""
    code = f"""
        import resource
        import pandas as pd
        from dgex.data.matrix import create_matrix
        from dgex.errors import DataError
        obs = pd.DataFrame(index=[f"sample{{i}}" for i in range(3000)])
        var = pd.DataFrame(index=[f"gene{{i}}" for i in range(3000)])
        resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, resource.RLIM_INFINITY))
        try:
            with create_matrix({str(tmp_path / "a")!r} + ".{ending}", obs, var, resume_key="k"):
                raise SystemExit("begun beyond the limit")
        except DataError as error:
            assert "disk is full" in str(error), str(error)
        """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


PEAK = """
import resource, sys
import h5py, numpy, pandas
import dgex.data.formats.cells, dgex.data.formats.spool
from dgex.data.matrix import open_matrix

dgex.data.formats.spool.MEMORY_BYTES = 16 * 2**20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = rows = 0
with open_matrix(sys.argv[1]) as m:
    for start, x_bg in m.blocks():
        total += float(x_bg.sum(dtype="float64"))
        rows += len(x_bg)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) // 1024, rows, total)
"""


def stream(source: Path) -> tuple[int, int, float]:
    """Megabytes at the peak above those of the imports, rows and sum of a whole reading."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(source)], capture_output=True, text=True, check=True
    )
    peak, rows, total = done.stdout.split()
    return int(peak), int(rows), float(total)


def test_a_large_gctx_is_read_in_little_memory(tmp_path):
    source = tmp_path / "big.gctx"
    n, g, total = 7500, 20000, 0.0
    block = np.random.default_rng(1).random((500, g), dtype="float32")
    var = pd.DataFrame(index=[f"ENSG{i:011d}" for i in range(g)])
    with create_matrix(source, pd.DataFrame(index=[f"s{i}" for i in range(n)]), var) as out:
        for start in range(0, n, 500):
            block[:, 0] = start
            total += float(block.sum(dtype="float64"))
            out.write(block)
    assert source.stat().st_size > 600e6
    peak, rows, streamed = stream(source)
    assert rows == n
    assert streamed == pytest.approx(total, rel=1e-12)
    assert peak < 350, f"{peak} MB above the imports"


def test_large_text_is_turned_round_in_little_memory(tmp_path):
    # 160 MB of numbers; held whole they would cost more than the limit.
    source = tmp_path / "big.tsv"
    n, g = 1000, 20000
    cells = "\t".join(str(i % 7) for i in range(n))
    with source.open("w") as out:
        out.write("gene\t" + "\t".join(f"sample {i}" for i in range(n)) + "\n")
        out.writelines(f"g{i}_at\t{cells}\n" for i in range(g))
    peak, rows, streamed = stream(source)
    assert rows == n
    assert streamed == g * sum(i % 7 for i in range(n))
    assert peak < 250, f"{peak} MB above the imports"
