//! The Kubernetes manifests agree with the binaries: flags, ports, paths, mounts and times.

mod reading;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use reading::{MANIFESTS, Pod, flags_known_to, list, selects, text};

#[test]
fn every_flag_is_known_to_its_binary() {
    let serve = flags_known_to(env!("CARGO_BIN_EXE_turret"), "serve");
    let train = flags_known_to(env!("CARGO_BIN_EXE_fine-tune"), "train");
    for manifests in &*MANIFESTS {
        let (server, job) = (manifests.server(), manifests.fine_tune_job());
        assert_eq!(server.arguments().words[..], ["serve"]);
        assert_eq!(job.container["command"], serde_json::json!(["fine-tune"]));
        assert_eq!(job.arguments().words[0], "train");
        for (pod, known) in [(server, &serve), (job, &train)] {
            for flag in pod.arguments().flags.keys() {
                assert!(
                    known.contains(*flag),
                    "{}: unknown flag {flag}, expected one of {known:?}",
                    manifests.origin
                );
            }
        }
    }
}

#[test]
fn container_ports_are_the_ones_listened_on() {
    for manifests in &*MANIFESTS {
        let server = manifests.server();
        let arguments = server.arguments();
        let listening = BTreeMap::from([
            ("admin", arguments.port("--admin")),
            ("grpc", arguments.port("--listen")),
        ]);
        assert_eq!(server.ports(), listening, "{}", manifests.origin);
    }
}

#[test]
fn probes_and_monitor_use_paths_of_the_admin_port() {
    for manifests in &*MANIFESTS {
        let server = manifests.server();
        let probes = [
            ("startupProbe", "/readyz"),
            ("readinessProbe", "/readyz"),
            ("livenessProbe", "/livez"),
        ];
        for (probe, path) in probes {
            let request = &server.container[probe]["httpGet"];
            assert_eq!(
                (&request["path"], &request["port"]),
                (&path.into(), &"admin".into()),
                "{probe}"
            );
        }
        let monitor = &manifests.only("PodMonitor")["spec"];
        assert!(
            selects(&monitor["selector"]["matchLabels"], server.labels),
            "{}",
            manifests.origin
        );
        let [endpoint] = list(&monitor["podMetricsEndpoints"]) else { panic!("one endpoint") };
        assert_eq!((text(&endpoint["port"]), text(&endpoint["path"])), ("admin", "/metrics"));
    }
}

#[test]
fn service_leads_to_the_grpc_port_of_every_server() {
    for manifests in &*MANIFESTS {
        let (service, server) = (&manifests.only("Service")["spec"], manifests.server());
        assert_eq!(service["clusterIP"], "None", "clients balance, so each must see every server");
        assert!(selects(&service["selector"], server.labels), "{}", manifests.origin);
        assert!(
            !selects(&service["selector"], manifests.fine_tune_job().labels),
            "{}",
            manifests.origin
        );
        let [port] = list(&service["ports"]) else { panic!("one port") };
        assert_eq!(port["targetPort"], "grpc");
        assert_eq!(port["port"].as_u64(), server.ports().get("grpc").copied());
    }
}

#[test]
fn every_path_argument_is_on_a_mounted_volume() {
    for manifests in &*MANIFESTS {
        for pod in manifests.pods() {
            for path in pod.arguments().paths() {
                assert!(
                    pod.mount_holding(path).is_some(),
                    "{}: {path} is on no volume",
                    manifests.origin
                );
            }
        }
    }
}

#[test]
fn every_mount_has_a_volume_and_every_claim_exists() {
    for manifests in &*MANIFESTS {
        let claims: BTreeSet<&str> = manifests
            .of_kind("PersistentVolumeClaim")
            .map(|claim| text(&claim["metadata"]["name"]))
            .collect();
        for pod in manifests.pods() {
            for mount in list(&pod.container["volumeMounts"]) {
                let volume = pod
                    .volume(mount)
                    .unwrap_or_else(|| panic!("{}: no volume for {mount}", manifests.origin));
                let claim =
                    volume.get("persistentVolumeClaim").map(|claim| text(&claim["claimName"]));
                assert!(
                    claim.is_none_or(|name| claims.contains(name)),
                    "{}: no claim {claim:?}",
                    manifests.origin
                );
            }
        }
    }
}

#[test]
fn only_fine_tune_writes_heads_and_nobody_the_base() {
    for manifests in &*MANIFESTS {
        let (server, job) = (manifests.server(), manifests.fine_tune_job());
        let (heads, base) = (server.arguments().flag("--heads"), server.arguments().flag("--base"));
        assert!(!server.may_write(heads) && !server.may_write(base), "{}", manifests.origin);
        let arguments = job.arguments();
        assert!(
            job.may_write(arguments.flag("--heads")) && job.may_write(arguments.flag("--cache"))
        );
        assert!(!job.may_write(arguments.flag("--base")) && !job.may_write(arguments.words[1]));
        let claim_of = |pod: &Pod, path| {
            let mount = pod.mount_holding(path).unwrap();
            pod.volume(mount).unwrap()["persistentVolumeClaim"]["claimName"].clone()
        };
        assert_eq!(claim_of(&server, heads), claim_of(&job, arguments.flag("--heads")));
    }
}

#[test]
fn grace_period_exceeds_the_pause_and_the_drain() {
    for manifests in &*MANIFESTS {
        let server = manifests.server();
        let seconds = |value: &Value| Duration::from_secs(value.as_u64().expect("whole seconds"));
        let pause = seconds(&server.container["lifecycle"]["preStop"]["sleep"]["seconds"]);
        let drain = humantime::parse_duration(server.arguments().flag("--drain")).unwrap();
        let grace = seconds(&server.spec["terminationGracePeriodSeconds"]);
        assert!(
            grace > pause + drain,
            "{}: {grace:?} is not more than {pause:?} + {drain:?}",
            manifests.origin
        );
    }
}

#[test]
fn rolling_update_keeps_servers_until_successors_are_ready() {
    for manifests in &*MANIFESTS {
        let update = &manifests.only("Deployment")["spec"]["strategy"]["rollingUpdate"];
        assert_eq!(update["maxUnavailable"], 0, "{}", manifests.origin);
        let budget = &manifests.only("PodDisruptionBudget")["spec"];
        assert!(
            selects(&budget["selector"]["matchLabels"], manifests.server().labels),
            "{}",
            manifests.origin
        );
    }
}

#[test]
fn pods_run_without_privileges() {
    for manifests in &*MANIFESTS {
        for Pod { spec, container, .. } in manifests.pods() {
            let (pod, own) = (&spec["securityContext"], &container["securityContext"]);
            assert_eq!(pod["runAsNonRoot"], true, "{}", manifests.origin);
            assert_eq!(
                pod["runAsUser"], 10001,
                "{}: the user that the Dockerfile creates",
                manifests.origin
            );
            assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault", "{}", manifests.origin);
            assert_eq!(own["readOnlyRootFilesystem"], true, "{}", manifests.origin);
            assert_eq!(own["allowPrivilegeEscalation"], false, "{}", manifests.origin);
            assert_eq!(
                own["capabilities"]["drop"],
                serde_json::json!(["ALL"]),
                "{}",
                manifests.origin
            );
            assert_eq!(spec["automountServiceAccountToken"], false, "{}", manifests.origin);
        }
    }
}

#[test]
fn cluster_variables_are_never_read_as_settings() {
    for manifests in &*MANIFESTS {
        for pod in manifests.pods() {
            assert_eq!(pod.spec["enableServiceLinks"], false, "{}", manifests.origin);
        }
    }
}

#[test]
fn cuda_device_is_named_only_with_a_gpu_limit() {
    for manifests in &*MANIFESTS {
        let server = manifests.server();
        let gpus = server.container["resources"]["limits"]["nvidia.com/gpu"].as_u64();
        let device = server.arguments().flags.get("--device").copied();
        assert_eq!(gpus.map(|_| "cuda:0"), device, "{}", manifests.origin);
        assert_eq!(gpus.is_some(), manifests.origin.ends_with("gpu"), "{}", manifests.origin);
    }
}
