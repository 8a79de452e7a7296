//! Payloads from files and folders.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::environment::UsageError;

/// One body to post, and its name in messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PayloadFile {
    /// The file's path, with a line number when it holds several.
    pub name: String,
    /// The bytes, as they are in the file.
    pub body: Vec<u8>,
}

/// Reads files and folders in the given order; within a folder, in the order of their names, including subfolders.
///
/// A file is one payload, unless its name ends in `.ndjson`: then each line that is not blank is one. In folders only
/// `.json` and `.ndjson` count. `-` is standard input.
pub(super) fn collect(paths: &[PathBuf]) -> anyhow::Result<Vec<PayloadFile>> {
    let mut payloads = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut body = Vec::new();
            io::stdin().read_to_end(&mut body).context("standard input cannot be read")?;
            payloads.push(PayloadFile { name: "standard input".to_owned(), body });
        } else {
            read(path, &mut payloads)?;
        }
    }
    if payloads.is_empty() {
        return Err(UsageError("there is no .json and no .ndjson file at these paths".to_owned()).into());
    }
    Ok(payloads)
}

fn read(path: &Path, payloads: &mut Vec<PayloadFile>) -> anyhow::Result<()> {
    if path.is_dir() {
        let mut entries = fs::read_dir(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("the folder {} cannot be read", path.display()))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            // A link to a folder could point back here.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder || (path.is_file() && (has_extension(&path, "json") || has_extension(&path, "ndjson"))) {
                read(&path, payloads)?;
            }
        }
        return Ok(());
    }
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if !has_extension(path, "ndjson") {
        payloads.push(PayloadFile { name: path.display().to_string(), body: bytes });
        return Ok(());
    }
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    payloads.extend(lines.map(|(index, line)| PayloadFile {
        name: format!("{}:{}", path.display(), index + 1),
        body: line.trim_ascii().to_vec(),
    }));
    Ok(())
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_by_name_and_ndjson_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("deep")).unwrap();
        fs::write(at("deep/c.json"), "3").unwrap();
        fs::write(at("b.json"), "{\n}").unwrap();
        fs::write(at("z.ndjson"), "1\n\n  2 \r\n").unwrap();
        fs::write(at("notes.txt"), "no payload").unwrap();
        let payloads = collect(&[folder.path().to_owned()]).unwrap();
        let found: Vec<(String, &[u8])> = payloads
            .iter()
            .map(|payload| (payload.name.replace(&format!("{}/", folder.path().display()), ""), &payload.body[..]))
            .collect();
        let expected: [(&str, &[u8]); 4] =
            [("b.json", b"{\n}"), ("deep/c.json", b"3"), ("z.ndjson:1", b"1"), ("z.ndjson:3", b"2")];
        assert_eq!(found, expected.map(|(name, body)| (name.to_owned(), body)));
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let error = collect(&[PathBuf::from("no/such/file.json")]).unwrap_err();
        assert_eq!(error.to_string(), "no/such/file.json cannot be read");
    }
}
