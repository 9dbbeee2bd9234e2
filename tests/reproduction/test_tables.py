"""The tables hang together, and the papers' numbers in them are those that the papers print."""

import re
from pathlib import Path

import pytest

from visual_sentence.reproduction import table_names
from visual_sentence.reproduction.run import EXPERIMENTS

PAPERS = Path(__file__).resolve().parents[3] / "shared" / "papers"
TABLES = {name: experiment.table for name, experiment in EXPERIMENTS.items()}
# As printed, beside the columns that they are the means of: 2-way, then 5-way.
AVERAGES = {
    "frozen": (51.3, 26.3),
    "lqae": (54.0, 29.0),
    "spae-5": (69.5,),
    "spae-5-palm": (77.7, 58.8),
    "v2l-5:llm": (75.6, 69.8),
    "v2l-5:llm-13b": (79.3, 75.0),
    "v2l-5:llm-70b": (83.9, 81.5),
    "spae-21": (),
    "spae-21-palm": (79.0, 61.9),
    "v2l-21:llm": (78.8, 72.7),
    "v2l-21:llm-13b": (79.5, 75.2),
    "v2l-21:llm-70b": (86.7, 83.5),
}
AVERAGES_OF_VOCABULARIES = {
    "subword-5": 67.7,
    "bigram-5": 81.2,
    "trigram-5": 83.9,
    "subword-21": 75.8,
    "bigram-21": 85.1,
    "trigram-21": 86.7,
}
# Means of columns whose printed average, after rounding, is another: the paper's own slips.
MEANS = {
    ("v2l-5:llm-70b", "2"): 83.84,
    ("v2l-21:llm-70b", "2"): 86.76,
    ("v2l-21:llm-70b", "5"): 83.63,
    ("trigram-5", "2"): 83.84,
    ("trigram-21", "2"): 86.76,
}
# How the papers' lines begin, and which rows they are; in the order of the paper.
LINES = {
    "v2l-table1": [
        (r"Frozen \[47\] - - ", "frozen"),
        (r"LQAE \[25\] 256 GPT-3\.5 ", "lqae"),
        (r"SPAE \[54\] 5 GPT-3\.5 ", "spae-5"),
        (r"SPAE \[54\] 5 PaLM-2 \(340B\) ", "spae-5-palm"),
        (r"Ours 5 LLaMA-2 \(7B\) ", "v2l-5:llm"),
        (r"Ours 5 LLaMA-2 \(13B\) ", "v2l-5:llm-13b"),
        (r"Ours 5 LLaMA-2 \(70B\) ", "v2l-5:llm-70b"),
        (r"SPAE \[54\] 21 PaLM-2 \(340B\) ", "spae-21-palm"),
        (r"Ours 21 LLaMA-2 \(7B\) ", "v2l-21:llm"),
        (r"Ours 21 LLaMA-2 \(13B\) ", "v2l-21:llm-13b"),
        (r"Ours 21 LLaMA-2 \(70B\) ", "v2l-21:llm-70b"),
    ],
    "v2l-table2": [
        (r"SPAE \[54\] PaLM-2 5 (?=0\.)", "spae-5"),
        (r"Ours E-LLaMA-2 5 ", "v2l-5"),
        (r"SPAE \[54\] PaLM-2 21 ", "spae-21"),
        (r"Ours E-LLaMA-2 21 ", "v2l-21"),
    ],
    "v2l-table3": [
        (r"VQ-GAN \[12\] Learnable 256 ", "vqgan"),
        (r"VQ-GAN \[12\] PaLM-2 256 ", "vqgan-palm"),
        (r"VQ-GAN\*.* \[12\] LLaMA-2 256 ", "vqgan-llm"),
        (r"SPAE \[54\] PaLM-2 341 ", "spae:4"),
        (r"SPAE \[54\] PaLM-2 597 ", "spae:5"),
        (r"SPAE \[54\] PaLM-2 1109 ", "spae:7"),
        (r"Ours LLaMA2 256 ", "projected"),
        (r"Ours Hybrid 277 ", "v2l-hybrid"),
    ],
    "v2l-table4": [
        (rf"{start} LLaMA-2 {size} ", f"{name}:{llm}")
        for llm, size in {"llm": "7B", "llm-13b": "13B", "llm-70b": "70B"}.items()
        for start, name in {
            r"VQ-GAN\*.* \[12\]": "vqgan-llm",
            r"LQAE\*.* \[25\]": "lqae-llm",
            r"SPAE\*.* \[54\]": "spae-map",
            "Ours": "v2l",
        }.items()
    ],
    "v2l-table5": [
        (r"Subword 5 LLaMA-2 \(70B\) ", "subword-5"),
        (r"Bigram (?=40)", "bigram-5"),
        (r"Trigram (?=41)", "trigram-5"),
        (r"Subword 21 LLaMA-2 \(70B\) ", "subword-21"),
        (r"Bigram (?=44)", "bigram-21"),
        (r"Trigram (?=46)", "trigram-21"),
    ],
    "v2l-table6": [
        (r"LLaMA-2 LLaMA-2 ", "vqgan-llm"),
        (r"LLaMA-2 CLIP ", "text"),
        (r"LLaMA-2 P-LLaMA-2 ", "projected"),
    ],
}


@pytest.fixture(params=TABLES)
def table(request):
    return TABLES[request.param]


def test_the_tables_are_those_of_the_papers():
    assert sorted(table_names()) == ["simlvm-table1", "v2l-figure11", *(f"v2l-table{number}" for number in range(1, 7))]
    assert all(name == table.name for name, table in TABLES.items())


def test_no_two_rows_or_columns_have_one_key_or_one_name(table):
    for parts in (table.rows, table.columns):
        for name in ("key", "label"):
            found = [getattr(part, name) for part in parts]
            assert len(set(found)) == len(found), found


def test_the_papers_numbers_stand_in_columns_that_exist(table):
    known = {column.key for column in table.columns}
    assert all(row.paper.keys() <= known for row in table.rows)
    assert all(isinstance(number, float) and number > 0 for row in table.rows for number in row.paper.values())


def test_orderings_compare_rows_and_columns_that_exist(table):
    rows, columns = {row.key for row in table.rows}, {column.key for column in table.columns}
    assert table.orderings
    for ordering in table.orderings:
        assert {ordering.better, ordering.worse} <= rows and ordering.better != ordering.worse
        assert ordering.columns and set(ordering.columns) <= columns


def test_no_claim_is_read_twice(table):
    claims = [ordering.claim for ordering in table.orderings]
    assert len(set(claims)) == len(claims)


def test_something_of_every_table_is_plotted(table):
    assert any(column.is_plotted for column in table.columns)


def test_keys_can_be_names_of_files(table):
    assert all(re.fullmatch(r"[\w.:-]+", row.key) for row in table.rows)


def test_a_row_is_found_by_its_key(table):
    assert all(table.row(row.key) is row for row in table.rows)


@pytest.mark.parametrize("name", TABLES)
def test_the_papers_better_rows_are_better_in_the_paper(name):
    """Where the paper has both numbers they say what the claim says; what it does not hold for is listed here."""
    table = TABLES[name]
    signs = {column.key: 1 if column.higher_is_better else -1 for column in table.columns}
    against = set()
    for ordering in table.orderings:
        better, worse = table.row(ordering.better).paper, table.row(ordering.worse).paper
        for key in ordering.columns:
            if key in better and key in worse and signs[key] * (better[key] - worse[key]) < 0:
                against.add((ordering.claim, key))
    assert against == {
        "v2l-table4": {("V2L above SPAE*", "inpainting-lpips"), ("V2L above SPAE*", "outpainting-lpips")}
    }.get(name, set())


@pytest.mark.parametrize("row", AVERAGES)
def test_averages_of_table_1_are_those_printed(row):
    found = TABLES["v2l-table1"].row(row).paper
    assert tuple(found[name] for name in ("2-average", "5-average") if name in found) == AVERAGES[row]


@pytest.mark.parametrize("row", AVERAGES_OF_VOCABULARIES)
def test_averages_of_table_5_are_those_printed(row):
    assert TABLES["v2l-table5"].row(row).paper["2-average"] == AVERAGES_OF_VOCABULARIES[row]


@pytest.mark.parametrize(
    ("name", "row"),
    [(name, row.key) for name in ("v2l-table1", "v2l-table5") for row in TABLES[name].rows if row.paper],
)
def test_columns_have_the_average_that_is_printed_but_for_the_papers_slips(name, row):
    paper = TABLES[name].row(row).paper
    for way in {key[0] for key in paper}:
        columns = [number for key, number in paper.items() if key[0] == way and not key.endswith("average")]
        assert len(columns) == 7
        assert sum(columns) / 7 == pytest.approx(MEANS.get((row, way), paper[f"{way}-average"]), abs=0.0501)


@pytest.mark.parametrize("count", [5, 21])
def test_table_5s_trigrams_are_table_1s_two_ways_of_the_largest_model(count):
    trigrams = TABLES["v2l-table5"].row(f"trigram-{count}").paper
    largest = TABLES["v2l-table1"].row(f"v2l-{count}:llm-70b").paper
    assert trigrams == {key: number for key, number in largest.items() if key.startswith("2-")}


@pytest.mark.parametrize("row", ["vqgan-llm", "projected"])
def test_tables_3_and_6_share_rows(row):
    assert TABLES["v2l-table3"].row(row).paper == TABLES["v2l-table6"].row(row).paper


def test_simlvms_numbers_are_those_printed():
    numbers = {row.key: set(row.paper.values()) for row in TABLES["simlvm-table1"].rows if row.paper}
    assert numbers == {
        "lvm-7b": {31.01},
        "simlvm-1b": {50.79},
        "simlvm-8192": {61.25},
        "simlvm-4096": {23.79},
        "simlvm-2048": {24.80},
        "simlvm-1024": {21.70},
    }


def test_every_setting_of_figure_11_is_said_in_its_key():
    for row in TABLES["v2l-figure11"].rows:
        m, n = re.fullmatch(r"m(\d+)-n(\d+)", row.key).groups()
        assert row.label == f"m = {m}, n = {n}" and not row.paper


def printed(name: str, start: str) -> list[float]:
    """The numbers at the end of the paper's line that begins so; dashes are left out."""
    paper = PAPERS / ("simlvm.txt" if name.startswith("simlvm") else "v2l_tokenizer.txt")
    if not paper.is_file():
        pytest.skip(f"needs the paper's text in {paper}")
    lines = paper.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ").splitlines()
    (line,) = (line for line in lines if re.match(start, line))
    return [float(part) for part in re.sub(f"^{start}", "", line).split() if part != "-"]


@pytest.mark.parametrize(("name", "start", "row"), [(name, *line) for name in LINES for line in LINES[name]])
def test_every_number_is_in_its_place_as_the_paper_prints_it(name, start, row):
    table = TABLES[name]
    paper = table.row(row).paper
    found = [paper[column.key] for column in table.columns if column.key in paper]
    assert found == pytest.approx(printed(name, start), abs=1e-9)


@pytest.mark.parametrize("name", LINES)
def test_no_row_has_a_number_that_the_paper_does_not_print(name):
    assert {row.key for row in TABLES[name].rows if row.paper} == {row for _, row in LINES[name]}
