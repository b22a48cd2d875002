//! Programs of a machine, played by shell scripts in unit tests.

use std::path::Path;

/// Makes one. A child writes it: what this process has open for writing, a child of another test has too until its exec, and nobody can
/// start it meanwhile.
pub fn program(path: &Path, script: &str) {
    #[expect(clippy::disallowed_methods, reason = "a test's own child")]
    let mut shell = std::process::Command::new("/bin/sh");
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\" && chmod 755 \"$0\"";
    assert!(shell.args(["-c", write]).arg(path).arg(script).status().unwrap().success(), "{}", path.display());
}
