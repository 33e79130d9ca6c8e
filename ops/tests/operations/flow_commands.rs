//! `flow check`, what `flow deploy` looks at, and `flow export`.

use longhaul_ops::{embedded::temporary_folder, handlers::Permissions};

use crate::server::Installation;

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_settings_of_built_in_handlers_are_found_before_anything_runs() {
    let installation = Installation::new().await;
    let folder = temporary_folder().unwrap();
    let file = folder.path().join("wrong.yaml");
    let path = file.to_str().unwrap();
    let begin =
        "name: f\nversion: 1\nsteps:\n  - name: a\n    handler: command\n    with: { program: ls }\n  - name: b\n";
    let command = "    handler: command\n    with:\n      program: ls\n";
    for (more, line, reason) in [
        (format!("{command}      args: \"-l /tmp\"\n"), 11, "write a list"),
        (format!("{command}      stdot: json\n"), 11, "did you mean stdout?"),
        ("    handler: command\n".into(), 7, "missing field `program`"),
        ("    handler: command\n    with: { program: \"ls -l | wc -l\" }\n".into(), 9, "a line of a shell"),
        (format!("{command}      args: [\"{{{{ steps.aa.stdout }}}}\"]\n"), 9, "no step aa; did you mean a?"),
        (format!("{command}      args: [\"{{{{ steps.a.stdout }}}}\"]\n"), 9, "name it in `after`"),
        (format!("{command}      args: [\"{{{{ input.x | lenght }}}}\"]\n"), 9, "no filter lenght"),
        (format!("{command}      args: [\"{{{{ item }}}}\"]\n    for_each: $.input\n"), 9, "`input` is the item"),
        (format!("{command}      env: {{ PATH: /evil }}\n"), 11, "can never set PATH"),
        ("    handler: http\n    with: { url: \"http://x\", method: psot }\n".into(), 9, "did you mean POST?"),
        ("    handler: http\n    with: { url: \"http://x\", header: {} }\n".into(), 9, "did you mean headers?"),
    ] {
        std::fs::write(&file, format!("{begin}{more}")).unwrap();
        for verb in ["check", "deploy"] {
            let output = installation.longhaul(&["flow", verb, path]).await;
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{more}: {said}");
            assert!(said.contains(reason), "{more}: {said}");
            assert!(said.contains(&format!("wrong.yaml:{line}: step b: ")), "{more}: line {line}: {said}");
        }
    }
    assert!(installation.client().await.flows().await.unwrap().is_empty(), "nothing was deployed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_is_checked_without_a_database() {
    let installation = Installation::planned();
    let folder = temporary_folder().unwrap();
    let file = folder.path().join("f.yaml");
    let check = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = installation.command(&["flow", "check", file.to_str().unwrap()]);
        let output = command.env("DATABASE_URL", "postgres://nowhere.invalid/").output().await.unwrap();
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let twice = "name: f\nversion: 1\nsteps:\n  - name: a\n    handler: h\n  - name: a\n    handler: h\n";
    let (code, said) = check(twice).await;
    assert_eq!(code, 2);
    assert!(said.contains("f.yaml:6: flow f has two steps named a"), "the second one is the mistake: {said}");
    let (code, said) = check("name: f\nversion: 1\nsteps:\n  - name: a\n    handler: h\n    after: a\n").await;
    assert_eq!(code, 2);
    assert!(said.contains("a list is needed here") && said.contains("line 6"), "{said}");
    assert!(!said.contains("<input>") && said.lines().count() == 1, "{said}");
    let (code, said) = check("name: f\nversion: 1\nsteps:\n  - name: a\n    handler: h\n").await;
    assert_eq!((code, said.as_str()), (0, "1 file, no mistake found.\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_means_nothing_or_is_out_of_bounds_is_found_without_a_database_as_well() {
    let installation = Installation::new().await;
    let folder = temporary_folder().unwrap();
    let file = folder.path().join("f.yaml");
    let step = |more: &str| format!("name: f\nversion: 1\nsteps:\n  - name: a\n{more}");
    let handler = |more: &str| step(&format!("    handler: h\n    {more}\n"));
    for (text, reason) in [
        ("name: f f\nversion: 1\nsteps:\n  - name: a\n    handler: h\n".into(), "is not a flow name"),
        ("name: f\nversion: 0\nsteps:\n  - name: a\n    handler: h\n".into(), "version must be a whole number from 1"),
        ("name: f\nversion: 1\ntimeout: 0s\nsteps:\n  - name: a\n    handler: h\n".into(), "timeout must be longer"),
        ("name: f\nversion: 1\nphases:\n  - name: one\n    steps: []\n".into(), "at least one step"),
        (step("    handler: h h\n"), "is not a handler name"),
        (step("    sleep: 3d\n    with: { a: 1 }\n"), "with has no meaning for a step that is a sleep"),
        (step("    sleep: 3d\n    retry: { attempts: 3 }\n"), "retry has no meaning for a step that is a sleep"),
        (step("    flow: g\n    flow_version: 0\n"), "flow_version must be a whole number from 1"),
        (step("    wait_signal: { topic: \"\" }\n"), "topic must be a text"),
        (handler("detached: true"), "detached has no meaning for a step that is a handler"),
        (handler("compensate: \"\""), "is not a handler name"),
        (handler("queue: q q"), "is not a queue name"),
        (handler("priority: 5000"), "priority must be a whole number from -1000 to 1000, not 5000"),
        (handler("window: 5"), "window has no meaning without for_each"),
        (handler("window: 0\n    for_each: $.input"), "window must be a whole number from 1 to 10000, not 0"),
        (handler("timeout: 0s"), "timeout must be longer than 0"),
        (handler("retry: { attempts: 0 }"), "attempts must be a whole number from 1 to 30000, not 0"),
        (handler("retry: { factor: 0.5 }"), "factor must be from 1 to 100, not 0.5"),
        (handler("retry: { jitter: 2 }"), "jitter must be from 0 to 1, not 2"),
        (handler("concurrency: { limit: 0 }"), "concurrency.limit must be a whole number from 1 to 1000000, not 0"),
        (handler("fair: { key: $.input.x, weight: 0 }"), "fair.weight must be"),
        (handler("budget: { name: b, limit: 0, per: 1h }"), "budget.limit must be a number above 0"),
        (handler("budget: { name: b, limit: 1, per: 1ms }"), "budget.per must be a duration of at least 1s"),
        (handler("approval: { choices: [] }"), "approval.choices is empty"),
        (handler("approval: { by: [] }"), "approval.by is empty"),
        (handler("approval: { choices: [a], default: b }"), "is not among the choices"),
    ] {
        std::fs::write(&file, &text).unwrap();
        for verb in ["check", "deploy"] {
            let output = installation.longhaul(&["flow", verb, file.to_str().unwrap()]).await;
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{verb}: {text}: {said}");
            assert!(said.contains(reason), "{verb}: {text}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_child_flow_is_told_at_deployment() {
    let installation = Installation::new().await;
    let folder = temporary_folder().unwrap();
    let deploy = async |name: &str, step: &str| {
        let file = folder.path().join("f.yaml");
        std::fs::write(&file, format!("name: {name}\nversion: 1\nsteps:\n  - name: a\n    {step}\n")).unwrap();
        let output = installation.longhaul(&["flow", "deploy", file.to_str().unwrap()]).await;
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(deploy("inner", "sleep: 1s").await, "");
    assert_eq!(deploy("good", "flow: inner").await, "");
    assert_eq!(
        deploy("wrong", "flow: iner").await,
        "warning: flow iner has not been deployed so far; did you mean inner?\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_handler_is_told_at_deployment() {
    let installation = Installation::new().await;
    installation.work(&Permissions { programs: vec!["true".into()], ..Permissions::default() });
    while installation.client().await.database().calls().await.unwrap().figures().await.unwrap().workers == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let folder = temporary_folder().unwrap();
    let file = folder.path().join("f.yaml");
    let text = "name: f\nversion: 1\nsteps:\n  - name: a\n    handler: comand\n  - name: b\n    handler: command\n    with: { program: \"true\" }\n";
    std::fs::write(&file, text).unwrap();
    let output = installation.longhaul(&["flow", "deploy", file.to_str().unwrap()]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "warning: no worker has registered handler comand so far; did you mean command?\n");
}

const ALL: &str = r#"
name: all
version: 3
description: "everything: that a flow can say"
timeout: 2d
phases:
  - name: first
    steps:
      - name: nap
        sleep: 90s
      - name: sum
        handler: command
        timeout: 5m
        queue: fast
        priority: -3
        after: [nap]
        with: { program: sha256sum, args: ["{{ input.path }}"] }
        retry: { attempts: 2, backoff: 250ms, factor: 3, cap: 1m, jitter: 0, never_on: [bad] }
        concurrency: { key: $.input.customer, limit: 2 }
        fair: { key: $.input.customer, weight: 2 }
        budget: { name: calls, limit: 10, per: 1h, amount: 2, exceeded: ask }
        compensate: undo.sum
  - name: second
    steps:
      - name: parcel
        wait_signal: { topic: parcel.sent, key: $.input.id, timeout: 3d, on_timeout: continue }
      - name: each
        handler: h
        for_each: $.input.items
        window: 7
        input: { x: $.item, wait_ms: 5 }
        when: $.states.sum == "completed"
        on_failure: continue
      - name: child
        flow: all
        flow_version: 1
        after: [each]
        approval: { question: "Go on?", choices: [yes, no], by: [anna], expires: 1h, default: no, pauses: step }
output: { total_ms: $.steps.sum.stdout }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_the_flow_that_was_deployed() {
    let installation = Installation::new().await;
    let folder = temporary_folder().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let file = write("all.yaml", ALL.as_bytes());
    let deployed = installation.longhaul(&["flow", "deploy", &file]).await;
    assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
    for (name, more) in [("yaml.yaml", &[][..]), ("json.json", &["--json"])] {
        let arguments: Vec<&str> = ["flow", "export", "all"].iter().chain(more).copied().collect();
        let exported = installation.longhaul(&arguments).await;
        let text = String::from_utf8(exported.stdout.clone()).unwrap();
        assert!(exported.status.success() && text.contains("phases"), "{text}");
        let again = installation.longhaul(&["flow", "deploy", &write(name, &exported.stdout)]).await;
        assert_eq!(
            String::from_utf8(again.stdout).unwrap(),
            "all version 3 was deployed already.\n",
            "{text}\n{}",
            String::from_utf8_lossy(&again.stderr)
        );
    }
}
