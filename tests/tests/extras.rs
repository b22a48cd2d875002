//! What `make image EXTRAS=DIR` adds to the image (tools/image-extras.sh): only files whose checksums stand in a list, each with its unit.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use landfall_tests::ran::Ran;
use tempfile::TempDir;

const LIST: &str = "packaging/image/extras";
const UNITS: &str = "usr/lib/systemd/system";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A root file system with the image's units, a list and a directory with a plain program and one in an archive.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.root().join(UNITS)).unwrap();
        for unit in ["cloudflared.path", "alloy.path"] {
            let from = repository().join("packaging/image/root").join(UNITS).join(unit);
            fs::copy(from, place.root().join(UNITS).join(unit)).unwrap();
        }
        fs::create_dir(place.files()).unwrap();
        fs::write(place.files().join("tunnel-amd64"), "#!/bin/sh\n").unwrap();
        let member = place.at("shipper-amd64");
        fs::write(&member, "#!/bin/sh\nexit 0\n").unwrap();
        let mut zip = Command::new("python3");
        zip.args(["-m", "zipfile", "-c"]).arg(place.files().join("shipper.zip")).arg(member);
        assert!(zip.status().unwrap().success());
        place.list(&[]);
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn root(&self) -> PathBuf {
        self.at("root")
    }

    fn files(&self) -> PathBuf {
        self.at("files")
    }

    fn sum(&self, file: &str) -> String {
        let ran = Ran::of(Command::new("sha256sum").arg(self.files().join(file))).unwrap();
        ran.stdout.split(' ').next().unwrap().to_owned()
    }

    /// The list, with words replaced.
    fn list(&self, edits: &[(&str, &str)]) {
        let mut text = format!(
            "# A list.\ncloudflared 1.2.3 {} - /usr/bin/cloudflared cloudflared.path https://a.example/1.2.3/tunnel-amd64\n\
             alloy 4.5.6 {} shipper-amd64 /usr/bin/alloy alloy.path https://a.example/v4.5.6/shipper.zip\n",
            self.sum("tunnel-amd64"),
            self.sum("shipper.zip")
        );
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        fs::write(self.at("list"), text).unwrap();
    }

    fn run(&self, files: &[&str]) -> Ran {
        let mut script = Command::new(repository().join("tools/image-extras.sh"));
        script.arg(self.root()).arg(self.at("list")).args(files.iter().map(|name| self.at(name)));
        Ran::of(script.current_dir(repository())).unwrap()
    }

    fn is_untouched(&self) -> bool {
        !self.root().join("usr/bin").exists() && !self.root().join("etc").exists()
    }
}

#[test]
fn what_is_in_the_list_goes_in_with_its_unit() {
    let place = Place::new();
    let ran = place.run(&["files"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for (name, version, text) in [("cloudflared", "1.2.3", "#!/bin/sh\n"), ("alloy", "4.5.6", "#!/bin/sh\nexit 0\n")] {
        let program = place.root().join("usr/bin").join(name);
        assert_eq!(fs::read_to_string(&program).unwrap(), text);
        assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o7777, 0o755);
        let link = place.root().join(format!("etc/systemd/system/multi-user.target.wants/{name}.path"));
        assert_eq!(fs::read_link(link).unwrap(), Path::new("/").join(UNITS).join(format!("{name}.path")));
        assert!(ran.stdout.contains(&format!("with {name} {version}; {name}.path is enabled")), "{ran:?}");
    }
    let listed = fs::read_to_string(place.root().join("usr/share/landfall/extras")).unwrap();
    assert_eq!(listed, "cloudflared 1.2.3\nalloy 4.5.6\n");
}

#[test]
fn without_its_file_a_unit_stays_disabled_and_the_build_says_so() {
    let place = Place::new();
    let ran = place.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("without cloudflared: cloudflared.path stays disabled; with it: EXTRAS=DIR"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("without alloy: alloy.path stays disabled"), "{ran:?}");
    assert!(place.is_untouched());

    fs::remove_file(place.files().join("shipper.zip")).unwrap();
    let ran = place.run(&["files"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("with cloudflared 1.2.3") && ran.stdout.contains("has no shipper.zip"), "{ran:?}");
    assert!(!place.root().join("usr/bin/alloy").exists());
    assert!(!place.root().join("etc/systemd/system/multi-user.target.wants/alloy.path").exists());
}

/// Nothing goes in, not even what is right.
#[test]
fn what_is_not_as_the_list_says_is_refused_with_what_to_do() {
    let place = Place::new();
    let refused = |files: &[&str], words: &[&str]| {
        let ran = place.run(files);
        assert_eq!(ran.code, 1, "{ran:?}");
        for word in words.iter().chain(&["; next: "]) {
            assert!(ran.stderr.contains(word), "no `{word}`: {ran:?}");
        }
        assert!(place.is_untouched(), "{ran:?}");
    };
    let (right, archive) = (place.sum("tunnel-amd64"), place.files().join("shipper.zip"));

    let good = fs::read(&archive).unwrap();
    let before = place.sum("shipper.zip");
    fs::write(&archive, [&good[..], b"x"].concat()).unwrap();
    refused(
        &["files"],
        &["is not alloy 4.5.6", &place.sum("shipper.zip"), &before, "https://a.example/v4.5.6/shipper.zip"],
    );
    fs::write(&archive, &good).unwrap();

    let stranger = place.files().join("stranger");
    fs::write(&stranger, "").unwrap();
    refused(&["files"], &["stranger` is in no line of"]);
    fs::remove_file(&stranger).unwrap();

    for sum in ["-", "SKIP", &right[1..], &right.to_uppercase()] {
        place.list(&[(&right, sum)]);
        // Also where nobody wants it yet.
        refused(&["files"], &["`cloudflared` of", "has no checksum"]);
        refused(&[], &["has no checksum"]);
    }
    place.list(&[(" https://a.example/1.2.3/tunnel-amd64", "")]);
    refused(&["files"], &["has not its seven words"]);
    place.list(&[]);
    refused(&["nowhere"], &["there is no directory"]);
}

#[test]
fn the_shipped_list_is_sound_and_so_are_its_units() {
    let mut script = Command::new(repository().join("tools/image-extras.sh"));
    let ran = Ran::of(script.args(["", LIST]).current_dir(repository())).unwrap();
    assert!(ran.code == 0 && ran.stdout.is_empty(), "{ran:?}");
    let list = fs::read_to_string(repository().join(LIST)).unwrap();
    let lines: Vec<Vec<&str>> =
        list.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.iter().map(|words| words[0]).collect::<Vec<_>>(), ["cloudflared", "alloy"]);
    for words in lines {
        let [name, version, _, _, place, path, url] = words[..] else { panic!("{words:?}") };
        assert!(url.starts_with("https://") && url.contains(version), "{url}");
        let read = |unit: &str| {
            let path = repository().join("packaging/image/root").join(UNITS).join(unit);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o111, 0, "{unit}");
            fs::read_to_string(path).unwrap()
        };
        // Without the program neither is more than a condition that is not met.
        for unit in [path, &format!("{name}.service")] {
            assert!(read(unit).contains(&format!("ConditionPathExists={place}\n")), "{unit}");
        }
        let service = read(&format!("{name}.service"));
        let id = service.lines().find_map(|line| line.strip_prefix("LoadCredential=")?.split(':').next()).unwrap();
        let waits = format!("PathExists=/run/landfall/secrets/.units/{name}.service/{id}\n");
        assert!(read(path).contains(&waits), "{path} does not wait for `{id}`");
        assert!(service.contains(&format!("test -s ${{CREDENTIALS_DIRECTORY}}/{id}\n")), "{name}");
    }
}
