"""The record of one draw of an evaluation: what was asked, what came out, by which protocol."""

from datetime import UTC, datetime
from typing import Any

from cl_semisup.results import evaluation_records, protocol
from cl_semisup.results.records import Record
from cl_semisup.scoring.scores import SETTINGS, DrawScores, Scores
from cl_semisup.suite.run import digest

PROTOCOL_VERSION = 4  # raised whenever a change moves a score


def draw_record(scores: Scores, found: DrawScores, seed_name: str, versions: dict[str, Any]) -> Record:
    """The id is the hash of features, draw and settings; the protocol is shared by features that may be compared."""
    features, draw = scores.features, found.draw
    settings = {
        "version": PROTOCOL_VERSION,
        "kind": evaluation_records.KIND,
        "dataset": seed_name,
        "label_set": draw.fingerprint,
        "test_labels_hash": features.test_labels_hash,
        "probes": SETTINGS,
    }
    question: dict[str, Any] = {"features": features.name, "data_hash": features.content_hash, "labels": draw.label}
    question |= {"repetition": draw.repetition, "settings": settings}
    sizes: dict[str, Any] = {
        "classes": features.classes,
        "train_rows": len(features.train),
        "test_rows": len(features.test),
    }
    sizes |= {"dim": features.train.shape[1], "labelled_rows": len(draw.rows), "label_set": draw.fingerprint}
    return {
        "schema": evaluation_records.SCHEMA,
        "kind": evaluation_records.KIND,
        "id": digest(question),
        "status": "collapsed" if scores.reason else "ok",
        "reason": scores.reason,
        "asked": question,
        "resolved": sizes | {"dtype": str(features.train.dtype).removeprefix("torch.")},
        "scores": {name: found.score(name) for name in found.right},
        "diagnostics": found.diagnostics | scores.geometry,
        "warnings": list(scores.warnings),
        "cost": {"evaluation_seconds": scores.seconds, "evaluated_for": sum(map(len, scores.budgets))},
        "protocol": {"fingerprint": protocol.fingerprint(settings), "settings": settings},
        "versions": versions | {"data": features.content_hash},
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
