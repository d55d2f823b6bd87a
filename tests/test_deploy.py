"""What `deploy/` and `compose.serve.yaml` say, as far as that can be told without a cluster and without Docker."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from servers import find_program

from pipeline.serving.lifeline import ASK_SECONDS
from pipeline.serving.protection.exposure import Exposure

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
COMPOSE = yaml.safe_load((ROOT / "compose.serve.yaml").read_text(encoding="utf-8"))["services"]


def manifest(kind: str) -> dict:
    return next(manifest for manifest in MANIFESTS if manifest["kind"] == kind)


POD = manifest("Deployment")["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [manifest["kind"] for manifest in MANIFESTS])
def test_kubernetes_understands_the_manifests(kind: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="`make test-slow` installs it")
    kubernetes_validate.validate(manifest(kind), kubernetes_validate.latest_version(), strict=True)


@pytest.mark.slow
def test_docker_compose_understands_the_file() -> None:
    program = find_program("docker-compose", "which `make test-slow` installs")
    subprocess.run([program, "--file", "compose.serve.yaml", "config", "--quiet"], cwd=ROOT, check=True)


def test_all_manifests_mean_the_same_pods() -> None:
    labels = POD["metadata"]["labels"]
    for kind in ("Deployment", "Service", "PodDisruptionBudget"):
        selector = manifest(kind)["spec"]["selector"]
        assert selector.get("matchLabels", selector).items() <= labels.items()
    assert (
        manifest("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]
        == manifest("Deployment")["metadata"]["name"]
    )
    assert manifest("Service")["spec"]["ports"][0]["targetPort"] == CONTAINER["ports"][0]["name"]
    assert (
        manifest("HorizontalPodAutoscaler")["spec"]["minReplicas"]
        > manifest("PodDisruptionBudget")["spec"]["minAvailable"]
    )
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(CONTAINER["ports"][0]["containerPort"])


def test_probes_wait_long_enough_for_the_truth_and_no_longer() -> None:
    probes = {name: CONTAINER[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    assert all(ASK_SECONDS < probe["timeoutSeconds"] <= 5 for probe in probes.values())


def test_a_pod_may_end_what_it_took() -> None:
    seconds = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["spec"]["terminationGracePeriodSeconds"] >= seconds + Exposure().grace_seconds
    assert int(COMPOSE["service"]["stop_grace_period"].removesuffix("s")) >= Exposure().grace_seconds


def test_the_service_may_do_little_and_write_only_what_is_temporary() -> None:
    assert POD["spec"]["securityContext"]["runAsNonRoot"]
    assert not POD["spec"]["automountServiceAccountToken"]
    own = CONTAINER["securityContext"]
    assert (own["readOnlyRootFilesystem"], own["allowPrivilegeEscalation"]) == (True, False)
    assert own["capabilities"]["drop"] == COMPOSE["service"]["cap_drop"] == ["ALL"]
    mounts = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}
    assert (
        [path for path, mount in mounts.items() if not mount.get("readOnly")] == COMPOSE["service"]["tmpfs"] == ["/tmp"]
    )
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in POD["spec"]["volumes"]}
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in POD["spec"]["volumes"]
        if len(volume) > 1 and "persistentVolumeClaim" in volume
    ]
    assert claims == [manifest("PersistentVolumeClaim")["metadata"]["name"]]


def test_what_compose_mounts_is_there_and_is_where_it_is_looked_for() -> None:
    mounted = {}
    for service in COMPOSE.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for source, target, *_ in (volume.split(":") for volume in service.get("volumes", [])):
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                mounted[target] = ROOT / source
    config = yaml.safe_load(mounted["/etc/prometheus/prometheus.yml"].read_text())
    assert f"/etc/prometheus/{config['rule_files'][0]}" in mounted
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.partition(":")[0] in COMPOSE
    provisioning = "/etc/grafana/provisioning"
    source = yaml.safe_load(mounted[f"{provisioning}/datasources/prometheus.yaml"].read_text())["datasources"][0]
    assert re.fullmatch(r"http://(\w+):9090", source["url"])[1] in COMPOSE
    folder = yaml.safe_load(mounted[f"{provisioning}/dashboards/expression.yaml"].read_text())["providers"][0][
        "options"
    ]["path"]
    home = COMPOSE["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path(folder)
    assert home in mounted
    tags = {name: service["image"].rpartition(":")[2] for name, service in COMPOSE.items() if name != "service"}
    assert all(re.match(r"v?\d+\.\d+", tag) for tag in tags.values())


def test_the_dashboard_is_whole() -> None:
    panels = json.loads((DEPLOY / "grafana" / "expression-service.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_alerts_say_how_bad_it_is_and_what_it_is() -> None:
    rules = [
        rule for group in yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
    ]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].count("{{") == rule["annotations"]["summary"].count("}}")
