//! Flow files that are wrong: each is refused with file, line and reason.

use longhaul_ops::embedded::temporary_folder;

use crate::server::Installation;

/// Lines 1 to 6; what is wrong begins at line 7.
const BEGIN: &str = "name: f\nversion: 1\nsteps:\n  - name: first\n    handler: h\n  - name: second\n";

#[tokio::test(flavor = "multi_thread")]
async fn wrong_flow_files_are_refused_with_file_line_and_reason() {
    let installation = Installation::new().await;
    let folder = temporary_folder().unwrap();
    let step = |more: &str| format!("{BEGIN}{more}");
    let wrong: Vec<(String, usize, &str)> = vec![
        // What does not follow the schema of flow files.
        ("name: f\nversion: one\nsteps: []\n".into(), 2, "invalid"),
        ("name: f\nversion: 1\nsteps:\n  - name: x\n    handlr: h\n".into(), 5, "handlr"),
        ("name: f\nversion: 1\nsteps:\n  - handler: h\n".into(), 4, "name"),
        ("name: f\nversion: 1\nstep: []\n".into(), 3, "step"),
        (step("    handler: h\n    retry: { attempts: -1 }\n"), 8, "attempts"),
        (step("    handler: h\n    timeout: soon\n"), 8, "soon"),
        (step("    handler: h\n    priority: high\n"), 8, "priority"),
        (step("    handler: h\n    after: first\n"), 8, "sequence"),
        (step("    handler: h\n    on_failure: explode\n"), 8, "explode"),
        (step("    handler: h\n    approval: { who: me }\n"), 8, "who"),
        (step("    handler: h\n    with: [1, 2]\n"), 8, "with"),
        ("name: f\nversion: 1\nsteps:\n  - name: x\n   handler: h\n".into(), 5, ""),
        // What is no flow.
        (step("    handler: h h\n"), 7, "is not a handler name"),
        (step("    queue: q q\n    handler: h\n"), 7, "is not a queue name"),
        (step("    handler: h\n    priority: 5000\n"), 8, "priority must be a whole number from -1000 to 1000"),
        (step("    handler: h\n    after: [third]\n"), 6, "waits for 'third', which is no step"),
        (step("    handler: h\n    after: [second]\n"), 6, "cycle: second -> second"),
        (step("    sleep: 1s\n    handler: h\n"), 8, "not handler and sleep"),
        (step("    after: [first]\n"), 6, "one of handler, flow, sleep and wait_signal is needed"),
        (step("    sleep: 1s\n    timeout: 1s\n"), 8, "timeout has no meaning for a step that is a sleep"),
        (step("    handler: h\n    when: $.input >\n"), 8, "is not a path"),
        (step("    handler: h\n    when: $.steps.first == 1\n"), 6, "need not have ended by then"),
        (step("    handler: h\n    input:\n      a: $.steps.third\n"), 6, "looks at 'third', which is no step"),
        (step("    handler: h\n    for_each: \"items[\"\n"), 8, "is not a path"),
        (step("    handler: h\n    window: 10\n"), 8, "window has no meaning without for_each"),
        (
            step("    handler: h\n    for_each: $.input\n    window: 20000\n"),
            9,
            "window must be a whole number from 1 to 10000",
        ),
        (step("    flow: other\n    compensate: \"a b\"\n"), 8, "compensate: 'a b' is not a handler name"),
        (step("    handler: h\n    detached: true\n"), 8, "detached has no meaning"),
        (
            step("    handler: h\n    budget: { name: b, limit: 0, per: 1h }\n"),
            8,
            "budget.limit must be a number above 0",
        ),
        (
            step("    handler: h\n    approval: { choices: [yes], default: no }\n"),
            8,
            "approval.default 'no' is not among the choices",
        ),
        (step("    wait_signal: { topic: \"\" }\n"), 7, "wait_signal"),
        (format!("{BEGIN}    handler: h\n  - name: first\n    handler: h\n"), 8, "has two steps named first"),
        (
            "name: f\nversion: 0\nsteps:\n  - name: x\n    handler: h\n".into(),
            2,
            "version must be a whole number from 1 on",
        ),
        ("name: f\nversion: 1\nphases:\n  - name: p\n    steps: []\n".into(), 4, "phase p: steps must be a list"),
        (
            "name: f\nversion: 1\noutput: $.steps.y\nsteps:\n  - name: x\n    handler: h\n".into(),
            3,
            "output looks at 'y'",
        ),
    ];
    assert!(wrong.len() >= 30);
    let mut misplaced = Vec::new();
    for (number, (text, line, reason)) in wrong.iter().enumerate() {
        let file = folder.path().join(format!("wrong-{number}.yaml"));
        std::fs::write(&file, text).unwrap();
        let output = installation.longhaul(&["flow", "deploy", file.to_str().unwrap()]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}\n{error}");
        assert!(
            error.contains(&format!("wrong-{number}.yaml")) && error.contains(reason),
            "{text}\nexpected: {reason}\n{error}"
        );
        let placed = error.contains(&format!(".yaml:{line}:"))
            || error.contains(&format!("line {line}"))
            || error.contains(&format!("{line} |"));
        if !placed {
            misplaced.push(format!("{text}expected line {line}\n{error}"));
        }
    }
    assert!(misplaced.is_empty(), "{}", misplaced.join("\n"));
    let flows = installation.client().await.flows().await.unwrap();
    assert!(flows.is_empty(), "none was deployed");
}
