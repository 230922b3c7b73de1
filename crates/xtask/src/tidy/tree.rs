//! The files that the checks look at: what git tracks, and what it would track (new, not ignored). In an unpacked archive
//! of the sources, where there is no git, everything but build output.

use std::{path::Path, process::Command};

use crate::{error::XtaskError, steps};

/// One text file.
#[derive(Debug, Clone)]
pub(super) struct TextFile {
    /// Relative to the workspace root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

/// All text files of the workspace, sorted by path.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<TextFile>,
}

impl Tree {
    /// Reads the tree at `root`. Files that aren't UTF-8 are left out: no rule speaks of them.
    pub(super) fn read(root: &Path) -> Result<Tree, XtaskError> {
        let paths = if root.join(".git").exists() { tracked(root)? } else { found(root)? };
        let mut files = Vec::new();
        for path in paths {
            let full = root.join(&path);
            // Deleted but still tracked, or a submodule's folder.
            if !full.is_file() {
                continue;
            }
            let bytes = std::fs::read(&full).map_err(|source| XtaskError::File { path: full, source })?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(TextFile { path, text });
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(Tree { files })
    }

    /// The text of the file at `path`.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// A tree made of these files, for the tests of the rules.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Tree {
        let files = files
            .iter()
            .map(|(path, text)| TextFile { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect();
        Tree { files }
    }
}

fn tracked(root: &Path) -> Result<Vec<String>, XtaskError> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let printed = steps::output(Command::new("git").args(list).current_dir(root))?;
    let paths = printed.split(|byte| *byte == 0).filter_map(|path| std::str::from_utf8(path).ok());
    Ok(paths.filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn found(root: &Path) -> Result<Vec<String>, XtaskError> {
    let mut paths = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let full = root.join(&folder);
        let failed = |source| XtaskError::File { path: full.clone(), source };
        for entry in std::fs::read_dir(&full).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            // A link isn't followed: it could lead out of the tree, or in circles.
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() && name != "target" {
                folders.push(path);
            } else if kind.is_file() {
                paths.push(path);
            }
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_git_the_same_sources_are_found() {
        let root = crate::workspace_root();
        let sources = |paths: Vec<String>| {
            let mut sources: Vec<_> = paths
                .into_iter()
                .filter(|path| path.starts_with("crates/xtask/") && path.ends_with(".rs"))
                .collect();
            sources.sort();
            sources
        };
        let found = sources(found(&root).expect("the workspace can be read"));
        assert!(found.contains(&"crates/xtask/src/tidy/tree.rs".to_owned()));
        if root.join(".git").exists() {
            assert_eq!(found, sources(tracked(&root).expect("git lists the workspace")));
        }
    }
}
