//! The house rules that a compiler does not check: ranks, size, safety, words.

use std::fs;
use std::path::{Path, PathBuf};

/// Module and rank (docs/ARCHITECTURE.md). A module names only modules of lower rank.
const RANKS: &[(&str, u8)] = &[
    ("cli", 12),
    ("bench", 11),
    ("app", 10),
    ("config", 9),
    ("front", 8),
    ("bridge", 8),
    ("clients", 8),
    ("agent", 8),
    ("mcp", 7),
    ("payment", 6),
    ("signing", 6),
    ("ca", 6),
    ("guard", 5),
    ("monitor", 5),
    ("report", 5),
    ("vault", 5),
    ("audit", 4),
    ("banking", 4),
    ("notify", 4),
    ("tls", 3),
    ("hsm", 2),
    ("store", 2),
    ("ops", 1),
    ("kernel", 0),
];

/// Settings structs are joined by `config` and may be named from anywhere above their module; they name nothing.
fn rank(module: &str) -> u8 {
    RANKS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, rank)| *rank)
        .unwrap_or_else(|| panic!("src/{module} has no rank: give it one in tests/tidy.rs and docs/ARCHITECTURE.md"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file without comments and without its `#[cfg(test)]` tail.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let live = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    live.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Modules named as `crate::<module>` in this code, inside grouped imports too.
fn named_modules(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if at > 0 && code[..at].ends_with("$") {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let names = group.split('}').next().unwrap();
            named.extend(names.split(',').map(|name| name.trim().split("::").next().unwrap().to_owned()));
        } else {
            named.push(rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect());
        }
    }
    named.retain(|name| !name.is_empty());
    named
}

#[test]
fn modules_name_only_modules_of_lower_rank() {
    let mut broken = Vec::new();
    for path in sources(&root().join("src")) {
        let module = module_of(&path);
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        for named in named_modules(&code(&path)) {
            if named != module && rank(&named) >= rank(&module) {
                broken.push(format!("{} names {named}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_rank_check_sees_a_break() {
    let grouped = named_modules("use crate::{front::admin, kernel};\nlet x = crate::ops::clock::now();");
    assert_eq!(grouped, ["front", "kernel", "ops"]);
    assert!(rank("front") > rank("kernel"));
}

#[test]
fn the_kernel_does_no_io_and_reads_no_clock() {
    let forbidden = [
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::os",
        "std::io",
        "std::process",
        "std::env",
        "std::thread",
        "std::time::Instant",
        "SystemTime",
        "now_utc",
        "tokio",
        "async fn",
        "Mutex",
        "RwLock",
        "Atomic",
        "rand::",
        "rusqlite",
        "tracing",
    ];
    let mut broken = Vec::new();
    for path in sources(&root().join("src/kernel")) {
        // Test kits are compiled for tests only.
        if path.ends_with("testkit.rs") || path.ends_with("tests.rs") {
            continue;
        }
        let text = code(&path);
        broken.extend(
            forbidden.iter().filter(|word| text.contains(**word)).map(|word| format!("{}: {word}", path.display())),
        );
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn adapters_are_named_only_by_the_composition_root() {
    let mut broken = Vec::new();
    for path in sources(&root().join("src")) {
        let module = module_of(&path);
        if matches!(module.as_str(), "app" | "bench" | "store") {
            continue;
        }
        if ["store::sqlite", "store::postgres"].iter().any(|adapter| code(&path).contains(adapter)) {
            broken.push(path);
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn only_mcp_names_rmcp_only_the_hsm_names_cryptoki_and_only_stores_and_raw_loops_name_rusqlite() {
    let homes: [(&str, &[&str]); 4] =
        [("rmcp::", &["mcp"]), ("cryptoki::", &["hsm"]), ("rusqlite::", &["store", "bench"]), ("genai::", &["agent"])];
    for (word, homes) in homes {
        for path in sources(&root().join("src")) {
            let outside = !homes.contains(&module_of(&path).as_str());
            assert!(!(outside && code(&path).contains(word)), "{} names {word}", path.display());
        }
    }
}

#[test]
fn nothing_unfinished_is_left_in_the_tree() {
    // Written apart, so that this file does not find itself.
    let marks = [["to", "do!("].concat(), ["unimpl", "emented!("].concat(), ["FIX", "ME"].concat()];
    for folder in ["src", "tests"] {
        for path in sources(&root().join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            for mark in &marks {
                assert!(!text.contains(mark.as_str()), "{} has {mark}", path.display());
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut silent = Vec::new();
    for path in sources(&root().join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        if !text.starts_with("//!") && module_of(&path) != "main" {
            silent.push(path);
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn main_is_three_lines() {
    let text = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn no_private_key_is_kept_in_the_tree() {
    fn walk(at: &Path) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                walk(&path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let mark = ["PRIVATE", " KEY-----"].concat();
                assert!(!text.contains(&mark), "{}", path.display());
            }
        }
    }
    walk(&root());
}

#[test]
fn one_file_alone_is_unsafe() {
    let allowed = root().join("src/hsm/worker/reserved.rs");
    let words = ["unsafe ", "unsafe_code"];
    let uses = |path: &PathBuf| words.iter().any(|word| code(path).replace("deny(unsafe_code)", "").contains(word));
    let found: Vec<PathBuf> = sources(&root().join("src")).into_iter().filter(uses).collect();
    assert_eq!(found, [allowed]);
}
