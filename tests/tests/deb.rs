//! The Debian package, built twice by tools/build-deb.sh out of the same programs in different directories: it is the same to the
//! last byte, lintian has nothing to say of it, and it ships what it should. `make test-deb` runs this; it is no part of `make test`,
//! which builds no release. It installs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use landfall_core::journal::event;
use tempfile::TempDir;

struct Built {
    _directories: [TempDir; 2],
    debs: [PathBuf; 2],
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}\n{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// Both packages. The script has lintian judge each, and fails on an error or a warning.
fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let debs = [(&directories[0], "022", "UTC"), (&directories[1], "077", "Asia/Tokyo")].map(
            |(directory, umask, zone)| {
                let mut script = Command::new("sh");
                script.args(["-c", &format!("umask {umask}; exec tools/build-deb.sh")]).current_dir(repository());
                script.env("LANDFALL_PROGRAMS", programs()).env("LANDFALL_DEB", directory.path()).env("TZ", zone);
                PathBuf::from(output(&mut script).lines().last().expect("the script names no package"))
            },
        );
        Built { _directories: directories, debs }
    })
}

/// The static programs: `LANDFALL_PROGRAMS`, else what `make release` builds.
fn programs() -> PathBuf {
    let built = || repository().join(format!("target/{}-unknown-linux-musl/release", std::env::consts::ARCH));
    let directory = std::env::var_os("LANDFALL_PROGRAMS").map_or_else(built, PathBuf::from);
    assert!(directory.join("landfall").is_file(), "no programs in `{}`; next: `make release`", directory.display());
    directory
}

fn deb() -> &'static Path {
    &built().debs[0]
}

/// What it ships: modes and owners by path.
fn contents() -> BTreeMap<String, String> {
    let list = output(Command::new("dpkg-deb").arg("--contents").arg(deb()));
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[5].trim_start_matches('.').to_owned(), format!("{} {}", words[0], words[1]))
    };
    list.lines().map(entry).collect()
}

fn unpacked() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    output(Command::new("dpkg-deb").arg("--raw-extract").arg(deb()).arg(root.path()));
    root
}

#[test]
fn two_builds_in_different_directories_are_the_same_bytes() {
    let [first, second] = &built().debs;
    let digest = |path: &Path| output(Command::new("sha256sum").arg(path)).split(' ').next().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(
        digest(first),
        digest(second),
        "compare them with `diffoscope {} {}`",
        first.display(),
        second.display()
    );
}

#[test]
fn it_ships_programs_units_manual_and_documents_owned_by_root() {
    let contents = contents();
    let has = |path: &str, mode: &str| {
        let found = contents.get(path).unwrap_or_else(|| panic!("{path} is not in the package"));
        assert_eq!(found, &format!("{mode} root/root"), "{path}");
    };
    has("/usr/bin/landfall", "-rwxr-xr-x");
    for program in ["agent", "image-watcher", "secrets-fetcher", "exec"] {
        has(&format!("/usr/libexec/landfall/landfall-{program}"), "-rwxr-xr-x");
    }
    for file in [
        "etc/landfall/landfall.yaml",
        "usr/lib/sysusers.d/landfall.conf",
        "usr/lib/systemd/catalog/landfall.catalog",
        "usr/lib/systemd/system/landfall-agent.service",
        "usr/lib/tmpfiles.d/landfall.conf",
        "usr/share/bash-completion/completions/landfall",
        "usr/share/doc/landfall/README.md",
        "usr/share/doc/landfall/changelog.gz",
        "usr/share/doc/landfall/copyright",
        "usr/share/doc/landfall/operations.md",
        "usr/share/doc/landfall/third-party.txt.gz",
        "usr/share/fish/vendor_completions.d/landfall.fish",
        "usr/share/man/man1/landfall-publish.1.gz",
        "usr/share/man/man5/landfall.yaml.5.gz",
        "usr/share/man/man8/landfall-agent.8.gz",
        "usr/share/zsh/vendor-completions/_landfall",
    ] {
        has(&format!("/{file}"), "-rw-r--r--");
    }
    for (path, entry) in &contents {
        assert!(entry.ends_with(" root/root"), "{path}: {entry}");
        assert!(!entry[..10].contains(['s', 't', 'l']) && !entry[7..9].contains('w'), "{path}: {entry}");
    }
}

/// Whatever somebody adds to packaging/ is shipped without a word elsewhere, and nothing is of a place of its own making.
#[test]
fn everything_in_packaging_is_in_it() {
    let contents = contents();
    for top in ["etc", "usr"] {
        let found = output(Command::new("find").args([top, "-type", "f"]).current_dir(repository().join("packaging")));
        for file in found.lines() {
            let there = [format!("/{file}"), format!("/{file}.gz")].iter().any(|path| contents.contains_key(path));
            assert!(there, "packaging/{file} is not in the package");
        }
    }
}

#[test]
fn every_page_that_units_and_pages_name_is_shipped() {
    let (contents, root) = (contents(), unpacked());
    let shipped =
        |page: &str, section: &str| contents.contains_key(&format!("/usr/share/man/man{section}/{page}.{section}.gz"));
    let units = output(
        Command::new("grep").args(["-rhoE", "man:landfall[a-z.-]*\\([0-9]\\)"]).arg(root.path().join("usr/lib")),
    );
    let help = output(Command::new(root.path().join("usr/bin/landfall")).arg("--help"));
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A verb stands after two spaces, what is said of it after more.
    let verbs = verbs.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let verbs: BTreeSet<&str> =
        verbs.filter_map(|line| line.split(' ').next()).filter(|verb| *verb != "help").collect();
    assert!(verbs.len() > 10 && units.lines().count() > 3, "{help}{units}");
    for verb in verbs {
        assert!(shipped(&format!("landfall-{verb}"), "1"), "no landfall-{verb}(1)");
    }
    for page in units.lines().collect::<BTreeSet<_>>() {
        let (name, section) = page["man:".len()..].trim_end_matches(')').split_once('(').unwrap();
        assert!(shipped(name, section), "a unit names {page}, which is not shipped");
    }
}

#[test]
fn its_programs_run_say_their_version_and_hold_no_path_of_the_machine_that_built_them() {
    let root = unpacked();
    let version = output(Command::new("dpkg-deb").args(["--field"]).arg(deb()).arg("Version"));
    let libexec = ["landfall-agent", "landfall-image-watcher", "landfall-secrets-fetcher", "landfall-exec"];
    for path in
        std::iter::once("usr/bin/landfall".to_owned()).chain(libexec.map(|name| format!("usr/libexec/landfall/{name}")))
    {
        let program = root.path().join(&path);
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(output(Command::new(&program).arg("--version")).trim(), format!("{name} {}", version.trim()));
        let bytes = std::fs::read(&program).unwrap();
        let home = b"/.cargo/registry";
        assert!(
            !bytes.windows(home.len()).any(|part| part == home),
            "{name} holds paths of who built it; next: `make release`"
        );
    }
}

/// The programs themselves say what is linked: where something may panic they hold the path of its source.
#[test]
fn it_ships_the_licences_of_all_that_its_programs_hold() {
    let root = unpacked();
    let text = output(Command::new("zcat").arg(root.path().join("usr/share/doc/landfall/third-party.txt.gz")));
    let listed: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_once(": ")).map(|(crate_, _)| crate_).collect();
    let mut linked = BTreeSet::new();
    for name in ["bin/landfall", "libexec/landfall/landfall-agent", "libexec/landfall/landfall-secrets-fetcher"] {
        let bytes = std::fs::read(root.path().join("usr").join(name)).unwrap();
        // `/crates/REGISTRY/NAME-VERSION/src/…`
        for part in String::from_utf8_lossy(&bytes).split("/crates/index.").skip(1) {
            let package = part.split('/').nth(1).unwrap_or_default();
            let version =
                package.match_indices('-').find(|(at, _)| package[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
            let (at, _) = version.unwrap_or_else(|| panic!("no version in `{package}`"));
            linked.insert(format!("{} {}", &package[..at], &package[at + 1..]));
        }
    }
    assert!(linked.len() > 50, "{linked:?}");
    for package in &linked {
        assert!(listed.contains(package.as_str()), "`{package}` is linked, and its licence is not shipped");
        let has_text = text.lines().any(|line| line == package);
        let says_none = text.lines().any(|line| line.starts_with(package.as_str()) && line.ends_with("without a text"));
        assert!(has_text || says_none, "`{package}` has no text");
    }
    assert!(!text.contains("/registry/src"), "it holds paths of who built it");
}

#[test]
fn its_scripts_make_users_restart_daemons_and_leave_nothing_on_purge() {
    let root = unpacked();
    let read = |name: &str| std::fs::read_to_string(root.path().join("DEBIAN").join(name)).unwrap();
    let (postinst, prerm, postrm) = (read("postinst"), read("prerm"), read("postrm"));
    let place = |what: &str| postinst.find(what).unwrap_or_else(|| panic!("postinst has no `{what}`:\n{postinst}"));
    // Users before their directories, directories before the daemons.
    assert!(
        place("systemd-sysusers") < place("systemd-tmpfiles")
            && place("systemd-tmpfiles") < place("deb-systemd-invoke")
    );
    place("_dh_action=restart");
    for unit in [
        "landfall-agent.service",
        "landfall-image-watcher.service",
        "landfall-secrets-fetcher.service",
        "landfall-host.service",
    ] {
        assert!(postinst.contains(&format!("deb-systemd-helper enable '{unit}'")), "{unit} is not enabled");
        assert!(prerm.contains(unit), "{unit} is not stopped on removal");
    }
    assert!(!prerm.contains("docker") && !prerm.contains(".slice"), "removing touches containers:\n{prerm}");
    for left in ["/var/lib/landfall", "/run/landfall", "/etc/landfall", "landfall_guard", "landfall-cache-key"] {
        assert!(postrm.contains(left), "purging leaves {left}");
    }
    assert!(read("conffiles").contains("/etc/landfall/landfall.yaml"));
    let catalog = std::fs::read_to_string(root.path().join("usr/lib/systemd/catalog/landfall.catalog")).unwrap();
    assert!(event::ALL.iter().all(|(id, _)| catalog.contains(id)));
}
