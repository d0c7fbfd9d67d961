"""Faults of names and of what is there twice, each seeded into a copy of the tree."""

from pathlib import Path

import pytest

from tests.pipelines.gitops.trees import (
    CONTAINER,
    CRON,
    DEPLOYMENT,
    INFERENCE,
    PIPELINE,
    SERVING,
    Fault,
    assert_found,
    edit,
    edited,
)

SERVICE = f"{INFERENCE}/base/service.yaml"
PRODUCTION = "config/environments/production.yaml"
TMP = "            - name: tmp\n              mountPath: /tmp\n"

FAULTS = {
    "name of a Service": Fault(
        edit(SERVICE, "  name: ml-recommendation-inference\nspec", "  name: ML_Inference\nspec"),
        SERVING,
        SERVICE,
        "metadata.name",
        "'ML_Inference' is no name of a Service",
        "lower-case letters",
    ),
    "value of a label": Fault(
        edit(CRON, "part-of: fashion-recommender", "part-of: the fashion recommender"),
        PIPELINE,
        CRON,
        "metadata.labels.app.kubernetes.io/part-of",
        "is no value of a label",
        "at most 63",
    ),
    "wave that is no number": Fault(
        edit(CRON, "argocd.argoproj.io/sync-wave: '1'", "argocd.argoproj.io/sync-wave: last"),
        PIPELINE,
        CRON,
        "argocd.argoproj.io/sync-wave",
        "'last' is no number",
        "a whole number in quotes",
    ),
    "variable twice": Fault(
        edit(
            DEPLOYMENT,
            "          ports:\n",
            "          env: [{name: A, value: b}, {name: A, value: c}]\n          ports:\n",
        ),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.env",
        "name A is there 2 times",
        "remove",
    ),
    "volume twice": Fault(
        edited(
            DEPLOYMENT, lambda d: d[0]["spec"]["template"]["spec"]["volumes"].append({"name": "tmp", "emptyDir": {}})
        ),
        SERVING,
        DEPLOYMENT,
        "spec.template.spec.volumes",
        "name tmp is there 2 times",
        "remove",
    ),
    "folder with two mounts": Fault(
        edit(DEPLOYMENT, TMP, TMP + TMP.replace("name: tmp", "name: models")),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.volumeMounts",
        "mountPath /tmp is there 2 times",
        "remove",
    ),
    "name of a port": Fault(
        edit(SERVICE, "name: metrics", "name: Metrics_Port"),
        SERVING,
        SERVICE,
        "spec.ports",
        "'Metrics_Port' is no name of a port",
        "lower-case",
    ),
    "region that there is not": Fault(
        edit(PRODUCTION, "region: ap-southeast-2", "region: ap-southeast2"),
        SERVING,
        PRODUCTION,
        "aws.region",
        "'ap-southeast2' is no AWS region",
        "make gitops-configure REGION=",
    ),
    "bucket that S3 would not take": Fault(
        edit(PRODUCTION, "bucket: fashion-recommender-production", "bucket: Fashion_Recommender"),
        SERVING,
        PRODUCTION,
        "lake.bucket",
        "'Fashion_Recommender' cannot begin a bucket's name",
        "make gitops-configure BUCKET=",
    ),
    "registry with a scheme": Fault(
        edit("config/defaults/image-registry.yaml", "baseURL: 1", "baseURL: https://1"),
        SERVING,
        "config/defaults/image-registry.yaml",
        "baseURL/repoPrefix",
        "without https://",
        "make gitops-configure REGISTRY=",
    ),
    "port twice": Fault(
        edit(SERVICE, "port: 9090", "port: 80"),
        SERVING,
        SERVICE,
        "spec.ports",
        "port 80/TCP is there 2 times",
        "remove",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    assert_found(fault, tmp_path)
