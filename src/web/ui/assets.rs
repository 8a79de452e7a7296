//! The files that the pages load, built into the program. Each name contains a digest of the contents, so that a browser
//! may cache the file for ever.

use std::fmt::Write as _;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// A file that pages load.
#[derive(Debug)]
pub(super) struct Asset {
    path: String,
    /// The value of `Content-Type`.
    pub(super) media_type: &'static str,
    /// The contents of the file.
    pub(super) contents: &'static str,
}

/// The style sheet of all pages.
pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("app", "css", "text/css; charset=utf-8", include_str!("assets/app.css")));

/// The script that keeps a page up to date.
pub(super) static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("app", "js", "text/javascript; charset=utf-8", include_str!("assets/app.js")));

/// The icon in the tab.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")));

impl Asset {
    fn new(name: &str, ending: &str, media_type: &'static str, contents: &'static str) -> Self {
        let mut digest = String::new();
        for byte in &Sha256::digest(contents)[..6] {
            // Writing to a String cannot fail.
            let _ = write!(digest, "{byte:02x}");
        }
        Self { path: format!("/assets/{name}-{digest}.{ending}"), media_type, contents }
    }

    /// The path at which it is served.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// The asset that is served at a path.
pub(super) fn at(path: &str) -> Option<&'static Asset> {
    [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.path == path)
}
