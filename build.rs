//! Tells the crate which commit it is built from, and which migrations there are.
//!
//! The commit is `SOURCE_COMMIT` if that is set, as in the container, which has no checkout; else the head of this
//! checkout; else nothing. It never fails a build. A tree with uncommitted changes is not marked: this script does not run
//! again when a file changes, so the mark would be wrong as often as right.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// The length of an abbreviated commit in `git`, in hexadecimal digits.
const SHORT: usize = 7;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=migrations");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    fs::write(out.join("migrations.rs"), migrations("SQLITE", "sqlite")? + &migrations("POSTGRES", "postgres")?)?;
    tell_commit();
    Ok(())
}

/// Returns the code of a constant with the version, name and contents of each file `VERSION_NAME.sql` in a folder of
/// `migrations/`.
fn migrations(constant: &str, folder: &str) -> io::Result<String> {
    let folder =
        Path::new(&env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?).join("migrations").join(folder);
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    files.sort();
    let mut code = format!("pub(super) const {constant}: &[(i64, &str, &str)] = &[\n");
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let parts = name.strip_suffix(".sql").and_then(|name| name.split_once('_'));
        let Some((version, name)) = parts.and_then(|(version, name)| Some((version.parse::<i64>().ok()?, name))) else {
            return Err(io::Error::other(format!("{}: name it VERSION_NAME.sql", file.display())));
        };
        let (description, path) = (name.replace('_', " "), file.to_string_lossy());
        let _ = writeln!(code, "({version}, {description:?}, include_str!({path:?})),");
    }
    Ok(code + "];\n")
}

fn tell_commit() {
    println!("cargo::rerun-if-env-changed=SOURCE_COMMIT");
    let given = env::var("SOURCE_COMMIT").unwrap_or_default();
    let commit = if given.is_empty() { head() } else { short(&given) };
    match commit {
        Some(commit) => println!("cargo::rustc-env=BUILD_COMMIT={commit}"),
        None if given.is_empty() => {}
        None => println!("cargo::warning=SOURCE_COMMIT is not a commit: write at least {SHORT} hexadecimal digits"),
    }
}

fn short(commit: &str) -> Option<String> {
    let commit = commit.trim().to_ascii_lowercase();
    let is_one = commit.len() >= SHORT && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| commit[..SHORT].to_owned())
}

/// The commit that is checked out here. Sources without a checkout of their own may lie inside the checkout of another
/// project.
fn head() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    // The files that change when another commit is checked out or made. A path that does not exist would run this at every
    // build.
    let branch = git(&["rev-parse", "--symbolic-full-name", "HEAD"]);
    for name in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    short(&git(&["rev-parse", "HEAD"])?)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
