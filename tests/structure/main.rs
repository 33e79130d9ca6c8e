//! The source as a whole: modules stand on each other without circles.
//!
//! A module may use what stands below it, never what stands above: then each can be read, and changed, by itself. The test reads
//! the paths that modules name (`use crate::…`, `super::…`), follows re-exports to where an item is defined, and looks among the
//! modules of each folder for a circle. A folder counts as one module for its neighbours.

mod modules;

use std::path::Path;

use modules::Crate;

/// Each package with its source folder.
const PACKAGES: [(&str, &str); 5] = [
    ("schema", "schema/src"),
    ("scheduler", "scheduler/src"),
    ("worker", "worker/src"),
    ("embedded", "embedded/src"),
    ("testing", "testing/src"),
];

#[test]
fn modules_stand_on_each_other_without_circles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let circles: Vec<String> = PACKAGES
        .iter()
        .flat_map(|(name, source)| {
            let found = Crate::read(&root.join(source)).circles();
            found.into_iter().map(move |circle| format!("{name}: {circle}"))
        })
        .collect();
    assert!(circles.is_empty(), "these modules stand on each other in a circle:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found_through_a_re_export_and_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod low;\nmod high;\nmod apart;\npub use high::Tower;\n");
    write("low.rs", "// crate::apart is only spoken of.\npub struct Stone;\n");
    write("high/mod.rs", "mod roof;\npub struct Tower;\n");
    write("high/roof.rs", "use super::Tower;\nuse crate::{apart::Far, low::Stone};\n");
    write("apart.rs", "pub struct Far;\n");
    assert_eq!(Crate::read(folder.path()).circles(), Vec::<String>::new(), "a child may use its parent");

    write("low.rs", "fn stone() -> crate::Tower { todo!() }\n");
    assert_eq!(Crate::read(folder.path()).circles(), ["high -> low -> high (high/roof.rs, low.rs)"]);
}
