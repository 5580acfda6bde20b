"""Write what `adakd advise` says of measured settings, adakd/advice.json, from the records of the study and beside it.

python book/_tools/advice.py            write the file anew
python book/_tools/advice.py --check    exit with 1 if that would change it
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

from adakd.methods import get_method
from adakd.statistics import mean_interval
from adakd.study import read_records, read_study, weights_of

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "book" / "records"
FILE = ROOT / "adakd" / "advice.json"
# The run whose weights, rounded to half precision, are the study's teacher, over all test images.
TEACHER = "temperatures/cifar100-wrn_16_2-resnet8-ce.json"
# Beside the study, and like it but for the weights.
BESIDE = tuple(f"evidence/{name}.jsonl" for name in ("labels", "more_labels", "direction", "twin"))
SAME = ("model", "data", "recipe", "precision", "teacher")
SEEDS = 5


def settings(study):
    """Every setting that five seeds have run, the best by validation first; accuracy in percent, with its 95 % interval."""
    groups = defaultdict(list)
    norms = {name: round(norm, 6) for name, norm in study.plan["gradient_norm"].items()}
    for record in [*study.records, *read_records(*(RECORDS / name for name in BESIDE))]:
        config = record["config"]
        if all(config[name] == study.plan["config"][name] for name in SAME):
            groups[config["method"], json.dumps(config["method_options"], sort_keys=True)].append(record)
    found = []
    for (method, text), records in groups.items():
        if len(records) < SEEDS:
            continue
        options = json.loads(text)
        ce_weight, kd_weight = weights_of(records[0])
        accuracy = mean_interval([record["result"]["last"] for record in records])
        validation = mean_interval([record["result"]["validation"] for record in records])
        found.append(
            {
                "method": method,
                "options": options,
                "kd_weight": kd_weight,
                "ce_weight": ce_weight,
                # At the start and λ = 1; it was measured at the method's own temperature.
                "gradient_norm": None if "tau" in options else norms.get(method),
                "seeds": len(records),
                "validation": round(validation.estimate, 3),
                "accuracy": round(accuracy.estimate, 3),
                "low": round(accuracy.low, 3),
                "high": round(accuracy.high, 3),
            }
        )
    return sorted(found, key=lambda row: -row["validation"])


def within(rows):
    """The best by validation, and those whose mean test accuracy is not below the lower end of its interval."""
    return [row for row in rows if row["accuracy"] >= rows[0]["low"]]


def advice():
    """The content of the file."""
    study = read_study(RECORDS / "study")
    config, rows = study.plan["config"], settings(study)
    teacher = json.loads((RECORDS / TEACHER).read_text(encoding="utf-8"))
    if teacher["teacher"]["model"] != config["teacher"]["model"]:
        raise ValueError(f"{TEACHER} is not of the study's teacher")
    test = teacher["result"]["test"]
    quantiles = {
        name: {q: test[of][q] for q in ("q5", "q50", "q95")}
        for name, of in (("spread", "std"), ("max_z", "max_z"))
    }
    return {
        "kind": "advice",
        "source": "book/records/study",
        "protocol": {
            "data": "CIFAR-100" if config["data"]["name"] == "cifar100" else config["data"]["name"],
            "teacher": config["teacher"]["model"],
            "student": config["model"],
            "train_images": config["recipe"]["train_images"],
            "epochs": config["recipe"]["epochs"],
            "seeds": SEEDS,
            "settings": len(rows),
        },
        "teacher": {"classes": teacher["data"]["classes"], **quantiles},
        "best": within(rows),
        "best_kl": within([row for row in rows if get_method(row["method"]).divergence == "kl"]),
    }


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if that would change something"
    )
    return parser.parse_args(arguments)


def main(arguments):
    only_check = parsed(arguments).check
    new = json.dumps(advice(), indent=1, ensure_ascii=False) + "\n"
    if only_check:
        return int(FILE.read_text(encoding="utf-8") != new)
    FILE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
