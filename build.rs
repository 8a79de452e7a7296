//! Tells the crate which commit it is built from: `SOURCE_COMMIT` where that is set, as in the container, which has no
//! checkout; else the head of this checkout; else nothing. Never fails a build.
//!
//! A tree with changes that are not committed is not marked: this does not run again when a file changes, so the mark
//! would be wrong as often as right.

use std::env;
use std::path::Path;
use std::process::Command;

/// As long as `git` shows commits, in hexadecimal digits.
const SHORT: usize = 7;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_COMMIT");
    let given = env::var("SOURCE_COMMIT").unwrap_or_default();
    let commit = if given.is_empty() { head() } else { short(&given) };
    match commit {
        Some(commit) => println!("cargo::rustc-env=BUILD_COMMIT={commit}"),
        None if given.is_empty() => {}
        None => println!("cargo::warning=SOURCE_COMMIT is no commit: write at least {SHORT} hexadecimal digits"),
    }
}

fn short(commit: &str) -> Option<String> {
    let commit = commit.trim().to_ascii_lowercase();
    let is_one = commit.len() >= SHORT && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| commit[..SHORT].to_owned())
}

/// The commit that is checked out here. Sources without a checkout of their own may lie inside somebody else's.
fn head() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    // What changes when another commit is checked out or made. A path that is not there would run this at every build.
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
