//! `scripts/release` packs the program under test.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{ROOT, VERSION, read};

const PROGRAM: &str = "sentry-pagerduty-bridge";

/// Standard output of a command that must succeed.
#[track_caller]
fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn release(binary: &Path, dest: &TempDir) -> Command {
    let mut command = Command::new(Path::new(ROOT).join("scripts/release"));
    command.arg(binary).arg(dest.path()).env("SOURCE_DATE_EPOCH", "1700000000");
    command
}

#[test]
fn the_archive_holds_the_program_and_all_that_belongs_to_it() {
    let dest = tempfile::tempdir().unwrap();
    let archive = output_of(&mut release(Path::new(env!("CARGO_BIN_EXE_sentry-pagerduty-bridge")), &dest));
    let archive = Path::new(archive.trim_end());
    let top = archive.file_name().unwrap().to_str().unwrap().strip_suffix(".tar.gz").unwrap();
    assert!(top.starts_with(&format!("{PROGRAM}-{VERSION}-")), "{top}");
    output_of(Command::new("sha256sum").arg("--check").arg(format!("{top}.tar.gz.sha256")).current_dir(dest.path()));

    let prefix = tempfile::tempdir().unwrap();
    output_of(Command::new("tar").arg("-xzf").arg(archive).arg("--strip-components=1").arg("-C").arg(prefix.path()));
    let mut files: Vec<_> =
        output_of(Command::new("find").args([".", "-type", "f", "-printf", "%m %P\n"]).current_dir(&prefix))
            .lines()
            .map(str::to_owned)
            .collect();
    files.sort();
    let doc = |name: &str| format!("644 share/doc/{PROGRAM}/{name}");
    let mut expected = vec![
        format!("755 bin/{PROGRAM}"),
        format!("644 lib/systemd/system/{PROGRAM}.service"),
        format!("644 share/bash-completion/completions/{PROGRAM}"),
        format!("644 share/fish/vendor_completions.d/{PROGRAM}.fish"),
        format!("644 share/zsh/site-functions/_{PROGRAM}"),
    ];
    let docs =
        ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "SECURITY.md", "THIRD-PARTY.txt", "env.example"];
    expected.extend(docs.map(doc));
    let pages = |folder: &str, extensions: &[&str]| -> Vec<String> {
        let files = fs::read_dir(prefix.path().join(folder)).unwrap().map(|file| file.unwrap().path());
        let wanted = |path: &Path| path.extension().is_some_and(|found| extensions.iter().any(|one| found == *one));
        let files = files.filter(|path| wanted(path));
        files.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let manual = pages("share/man/man1", &["1"]);
    assert!(
        manual.contains(&format!("{PROGRAM}.1")) && manual.contains(&format!("{PROGRAM}-queue-retry.1")),
        "{manual:?}"
    );
    expected.extend(manual.iter().map(|page| format!("644 share/man/man1/{page}")));
    let book = pages(&format!("share/doc/{PROGRAM}/docs"), &["md", "json", "png"]);
    assert!(book.contains(&"runbook.md".to_owned()), "{book:?}");
    expected.extend(book.iter().map(|page| doc(&format!("docs/{page}"))));
    expected.sort();
    assert_eq!(files, expected);

    let held = |path: &str| fs::read_to_string(prefix.path().join(path)).unwrap();
    assert!(held(&format!("share/bash-completion/completions/{PROGRAM}")).contains("complete -F"));
    assert!(held(&format!("share/zsh/site-functions/_{PROGRAM}")).starts_with("#compdef"));
    assert!(held(&format!("share/fish/vendor_completions.d/{PROGRAM}.fish")).contains("complete -c"));
    assert!(held(&format!("share/man/man1/{PROGRAM}.1")).contains(".TH"));
    assert_eq!(held(&format!("share/doc/{PROGRAM}/env.example")), read(".env.example"));
    let notices = held(&format!("share/doc/{PROGRAM}/THIRD-PARTY.txt"));
    assert!(
        notices.contains("\nactix-web v4") && notices.contains("\nring v0") && notices.contains("ISC"),
        "of its crates"
    );
    // The unit starts the program from the path in the archive.
    let unit = held(&format!("lib/systemd/system/{PROGRAM}.service"));
    assert!(unit.contains(&format!("ExecStart=/usr/local/bin/{PROGRAM} serve")));
    let version = output_of(Command::new(prefix.path().join("bin").join(PROGRAM)).arg("--version"));
    assert!(version.starts_with(&format!("{PROGRAM} {VERSION}")), "{version}");
}

#[test]
fn another_program_or_version_is_not_packed() {
    let dest = tempfile::tempdir().unwrap();
    let output = release(Path::new("/bin/true"), &dest).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("but Cargo.toml says"), "{output:?}");
    assert_eq!(fs::read_dir(dest.path()).unwrap().count(), 0, "nothing is written");
}
