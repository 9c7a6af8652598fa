//! The command line: refused commands, and subcommands that need no running base.

use std::{fs::File, io::pipe, process::Stdio};

use crate::support::process::{failure, fine_tune, small_data_set, success, turret};

#[test]
fn wrong_command_lists_every_mistake_and_exits_with_two() {
    let (code, told) = failure(turret().args([
        "serve",
        "--listen",
        "nowhere",
        "--max-batch",
        "0",
        "--precision",
        "int4",
    ]));
    assert_eq!(code, 2);
    for part in [
        "--base FILE is missing",
        "--heads DIR is missing",
        "--listen \"nowhere\"",
        "--max-batch \"0\"",
        "unknown precision \"int4\"",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    let (code, told) = failure(fine_tune().args(["train", "data"]));
    assert_eq!(code, 2);
    assert!(
        told.contains("--task") && told.contains("--base") && told.contains("--heads"),
        "{told}"
    );
}

#[test]
fn control_characters_of_values_never_reach_the_terminal() {
    let value = "/nope/x\u{1b}[31m\ny";
    for arguments in [
        vec!["base", "inspect", value],
        vec!["base", "import", value],
        vec!["classify", "--task", "t", value],
        vec!["heads", "--server", value],
        vec!["serve", "--precision", value],
        vec!["serve", "--config", value],
    ] {
        let (_, told) = failure(turret().args(&arguments));
        let escaped = ["/nope/x\\u001b[31m\\ny", "/nope/x\\u{1b}[31m\\ny"];
        assert!(escaped.iter().any(|value| told.contains(value)), "{arguments:?}: {told}");
        assert!(!told.contains("\u{1b}[31m") && !told.contains("\ny"), "{arguments:?}: {told}");
    }
}

#[test]
fn wrong_listener_is_told_with_what_is_expected() {
    for (listener, told) in [
        (["--listen", "foo"], "--listen \"foo\": has no port; expected HOST:PORT such as"),
        (["--admin", "::1:9090"], "--admin \"::1:9090\": \"::1\" is not a host; expected HOST"),
    ] {
        let (code, found) = failure(turret().arg("serve").args(listener));
        assert!(code == 2 && found.contains(told), "{found}");
    }
    let (_, found) =
        failure(turret().args(["serve", "--listen", "localhost:50051", "--admin", ":9090"]));
    assert!(!found.contains("--listen") && !found.contains("--admin"), "{found}");
}

#[test]
fn https_server_is_refused_before_anything_is_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let mut train = fine_tune();
    train.args(["train", "data", "--task", "t", "--heads", "heads"]);
    let mut classify = turret();
    classify.args(["classify", "--task", "t", "data"]);
    let mut heads = turret();
    heads.arg("heads");
    for command in [&mut train, &mut classify, &mut heads] {
        let (code, told) = failure(command.args(["--server", &url]));
        assert!(code == 2 && told.contains("TLS is not supported yet"), "{told}");
        assert!(!told.contains("--base"), "{told}");
    }
    let connected = listener.accept().map(|_| ());
    assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn unknown_key_in_the_config_file_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("turret.toml");
    fs_err::write(&config, "listen = '127.0.0.1:0'\nmax_batch = 4\n").unwrap();
    let (code, told) = failure(turret().args(["serve", "--config"]).arg(&config));
    assert_eq!(code, 2);
    assert!(told.contains("unknown key \"max_batch\", did you mean \"max-batch\""), "{told}");
}

#[test]
fn unreachable_server_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("p.png");
    fs_err::write(&picture, b"x").unwrap();
    let (code, told) = failure(
        turret().args(["classify", "--server", "http://127.0.0.1:1", "--task", "t"]).arg(&picture),
    );
    assert_eq!(code, 1);
    assert!(told.contains("cannot reach http://127.0.0.1:1"), "{told}");
}

#[test]
fn inspect_describes_a_base_and_rejects_other_files() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.safetensors");
    success(turret().args(["base", "random", "resnet18", "-o"]).arg(&base));
    let told = success(turret().args(["base", "inspect"]).arg(&base));
    assert!(told.contains("resnet18") && told.contains("random weights from seed 0"), "{told}");
    let (code, told) = failure(
        turret()
            .args(["base", "inspect"])
            .arg(small_data_set(folder.path(), 1).join("dark/000.png")),
    );
    assert_eq!(code, 1);
    assert!(told.contains("is not a Turret base file"), "{told}");
}

#[test]
fn closed_pipe_ends_quietly_and_full_disk_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.safetensors");
    success(turret().args(["base", "random", "resnet18", "-o"]).arg(&base));
    let commands = || {
        let mut inspect = turret();
        inspect.args(["base", "inspect"]).arg(&base);
        let mut help = turret();
        help.args(["serve", "--help"]);
        let mut training_help = fine_tune();
        training_help.args(["train", "--help"]);
        [inspect, help, training_help]
    };
    for mut command in commands() {
        let (reader, closed) = pipe().unwrap();
        drop(reader);
        let output = command.stdout(closed).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command:?}: {output:?}");
    }
    for mut command in commands() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(told.contains("cannot write to standard output: No space left"), "{told}");
    }
}

#[test]
fn invalid_values_name_what_is_expected_with_an_example() {
    let (code, told) = failure(turret().args([
        "serve",
        "--queue-bytes",
        "1XB",
        "--rescan",
        "no",
        "--drain",
        "-1",
        "--log",
        "",
        "--log-verdicts",
        "some",
    ]));
    assert_eq!(code, 2);
    for part in [
        "--queue-bytes \"1XB\": expected a size, such as 512MiB",
        "--rescan \"no\": expected a time of 10ms or more, such as 5s",
        "--drain \"-1\": expected a time, such as 20s",
        "--log \"\": expected a level such as info",
        "expected \"all\", \"rejects\" or \"off\"",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    let (code, told) =
        failure(fine_tune().args(["train", "d", "--seed", "-1", "--map-limit", "z"]));
    assert_eq!(code, 2);
    assert!(told.contains("--seed \"-1\": expected a whole number of 0 or more"), "{told}");
    assert!(told.contains("--map-limit \"z\": expected a size, such as 8GiB"), "{told}");
}

#[test]
fn base_compressed_twice_tells_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let [base, once, twice] = ["a", "b", "c"].map(|name| folder.path().join(name));
    success(turret().args(["base", "random", "resnet18", "-o"]).arg(&base));
    success(turret().args(["base", "compress"]).arg(&base).arg("-o").arg(&once));
    let told = success(turret().args(["base", "compress"]).arg(&once).arg("-o").arg(&twice));
    assert_eq!(told.matches("compressed to 8 bits").count(), 1, "{told}");
}

#[test]
fn help_begins_with_what_each_program_is() {
    for (mut command, about) in [
        (turret(), "A gRPC server for image classifiers"),
        (fine_tune(), "Trains heads and publishes them"),
    ] {
        let help = success(command.arg("--help"));
        assert!(help.starts_with(about), "{help}");
    }
}

#[test]
fn failed_server_names_the_reason_even_with_a_silent_log() {
    let heads = tempfile::tempdir().unwrap();
    let mut serve = turret();
    serve.args(["serve", "--base", "missing.safetensors", "--log", "off"]);
    serve.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--heads"]).arg(heads.path());
    let (code, told) = failure(&mut serve);
    assert_eq!(code, 1);
    assert!(
        told.contains("missing.safetensors") || told.contains("built without libtorch"),
        "{told}"
    );
}

#[test]
fn unusable_log_filter_is_a_mistake_of_the_settings() {
    let (code, told) = failure(turret().args(["serve", "--log", "turret=loudest"]));
    assert_eq!(code, 2);
    assert!(told.contains("--log \"turret=loudest\": expected a level"), "{told}");
}
