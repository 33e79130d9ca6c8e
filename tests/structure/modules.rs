//! The modules of a crate, and what each of them names.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

/// A module's place: the names from the root of the crate to it.
type Place = Vec<String>;

/// The source files of a crate.
pub struct Crate {
    root: PathBuf,
    files: BTreeMap<Place, Module>,
}

struct Module {
    file: PathBuf,
    /// Full paths that it names.
    named: Vec<Vec<String>>,
    /// Names that it gives to things defined elsewhere in the crate.
    exports: HashMap<String, Vec<String>>,
}

impl Crate {
    /// Reads all files below a source folder. What stands in `#[cfg(test)] mod tests` at the end of a file counts for nothing.
    pub fn read(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("the folder can be read") {
                let path = entry.expect("the folder can be read").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    let place = place_of(root, &path);
                    if place.last().is_none_or(|name| name != "tests") {
                        let text = std::fs::read_to_string(&path).expect("the file can be read");
                        files.insert(place.clone(), Module::read(path, &place, &text));
                    }
                }
            }
        }
        Self { root: root.to_owned(), files }
    }

    /// The circles among the modules of each folder, each with two files that show it.
    pub fn circles(&self) -> Vec<String> {
        let mut edges: BTreeMap<Place, BTreeMap<String, BTreeMap<String, &Path>>> = BTreeMap::new();
        for (place, module) in &self.files {
            for named in &module.named {
                let Some(target) = self.home(named, 0) else { continue };
                let shared = place.iter().zip(&target).take_while(|(a, b)| a == b).count();
                // A module and what stands within it are one.
                if let (Some(from), Some(to)) = (place.get(shared), target.get(shared)) {
                    let folder = edges.entry(place[..shared].to_vec()).or_default();
                    folder.entry(from.clone()).or_default().entry(to.clone()).or_insert(&module.file);
                }
            }
        }
        edges.iter().flat_map(|(folder, edges)| self.circles_in(folder, edges)).collect()
    }

    fn circles_in(&self, folder: &Place, edges: &BTreeMap<String, BTreeMap<String, &Path>>) -> Vec<String> {
        let mut found = Vec::new();
        let mut told = BTreeSet::new();
        for start in edges.keys() {
            if told.contains(start) {
                continue;
            }
            if let Some(circle) = shortest_circle(start, edges) {
                let files: Vec<String> = circle
                    .windows(2)
                    .map(|pair| edges[&pair[0]][&pair[1]].strip_prefix(&self.root).unwrap().display().to_string())
                    .collect();
                let names: Vec<String> = circle
                    .iter()
                    .map(|name| [folder.as_slice(), std::slice::from_ref(name)].concat().join("::"))
                    .collect();
                found.push(format!("{} ({})", names.join(" -> "), files.join(", ")));
                told.extend(circle);
            }
        }
        found
    }

    /// The module in which a path's item stands.
    fn home(&self, path: &[String], depth: usize) -> Option<Place> {
        let length = (0..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
        let module = &self.files[&path[..length]];
        match path.get(length).and_then(|name| module.exports.get(name)) {
            Some(elsewhere) if depth < 10 => self.home(elsewhere, depth + 1),
            _ => Some(path[..length].to_vec()),
        }
    }
}

/// Breadth first, so that the shortest is told.
fn shortest_circle(start: &str, edges: &BTreeMap<String, BTreeMap<String, &Path>>) -> Option<Vec<String>> {
    let mut paths = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for path in paths {
            for next in edges.get(path.last()?).into_iter().flat_map(BTreeMap::keys) {
                if next == start {
                    return Some([path.as_slice(), std::slice::from_ref(next)].concat());
                }
                if seen.insert(next.clone()) {
                    longer.push([path.as_slice(), std::slice::from_ref(next)].concat());
                }
            }
        }
        paths = longer;
    }
    None
}

fn place_of(root: &Path, file: &Path) -> Place {
    let inner = file.strip_prefix(root).expect("it stands below the root").with_extension("");
    let mut place: Place = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if place.last().is_some_and(|name| ["mod", "lib", "main"].contains(&name.as_str())) {
        place.pop();
    }
    place
}

impl Module {
    fn read(file: PathBuf, place: &Place, text: &str) -> Self {
        let code = code_of(text);
        let mut module = Self { file, named: Vec::new(), exports: HashMap::new() };
        for (start, _) in code.match_indices("use ") {
            let before = code[..start].rsplit('\n').next().unwrap_or_default().trim();
            if !matches!(before, "" | "pub" | "pub(crate)" | "pub(super)") {
                continue;
            }
            let exported = !before.is_empty();
            let tree = code[start + 4..].split(';').next().unwrap_or_default();
            for (path, name) in leaves(tree) {
                if let Some(full) = full(place, &path) {
                    if exported {
                        module.exports.insert(name, full.clone());
                    }
                    module.named.push(full);
                } else if exported {
                    // Of a child of its own.
                    module.exports.insert(name, [place.as_slice(), &path].concat());
                }
            }
        }
        for word in ["crate::", "super::"] {
            for (start, _) in code.match_indices(word) {
                let path: String =
                    code[start..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
                let inside = code[..start].ends_with("::") || code[..start].ends_with('$');
                let path: Vec<String> = path.split("::").filter(|p| !p.is_empty()).map(str::to_owned).collect();
                if !inside && let Some(full) = full(place, &path) {
                    module.named.push(full);
                }
            }
        }
        module
    }
}

/// The text without comments, and without the tests at its end.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The path from the root of the crate; `None` for other crates.
fn full(place: &Place, path: &[String]) -> Option<Vec<String>> {
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([place.as_slice(), &path[1..]].concat()),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            Some([&place[..place.len().checked_sub(ups)?], &path[ups..]].concat())
        }
        _ => None,
    }
}

/// The paths of a use tree, each with the name that it brings in.
fn leaves(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    let Some(brace) = tree.find('{') else {
        let (path, name) = tree.split_once(" as ").map_or((tree, None), |(path, name)| (path, Some(name.trim())));
        let path: Vec<String> = path.trim().split("::").map(|part| part.trim().to_owned()).collect();
        let last = path.last().cloned().unwrap_or_default();
        return vec![(path, name.map_or(last, str::to_owned))];
    };
    let head: Vec<String> =
        tree[..brace].split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    let body = &tree[brace + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in body.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&body[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(leaves).map(|(path, name)| ([head.as_slice(), &path].concat(), name)).collect()
}
