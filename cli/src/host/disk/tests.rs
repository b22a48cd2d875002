//! The data disk on loop devices, as root: what is formatted, taken, refused, and how it goes on after a power cut. Each test has a root
//! and a disk of its own; what it mounts lies below that root.

mod bench;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};

use self::bench::{Bench, SIZE, lun, said};
use super::content::{Content, mark};
use super::*;
use crate::host::stand_in::program;

const MIB: u64 = 1 << 20;

/// In a process of their own: what a test has open alone, a child that another test starts has open too until its exec, and the disk is
/// in use.
#[test]
fn one_after_the_other() {
    let tests = std::env::current_exe().unwrap();
    let ran = said(tests.to_str().unwrap(), &["--ignored", "--test-threads", "1", "host::disk::tests::"]);
    assert!(ran.contains("test result: ok.") && !ran.contains("running 0 tests"), "{ran}");
}

fn refused(brought: Result<Mounted, NotMounted>) -> String {
    match brought.unwrap_err() {
        NotMounted::Refused(failed) => {
            assert!(failed.next.is_some(), "{failed:?}");
            failed.message
        }
        NotMounted::Absent(failed) => panic!("{failed:?}"),
    }
}

#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn a_blank_disk_is_formatted_once_and_then_only_mounted() {
    let bench = Bench::new();
    let first = bench.bring().await.unwrap();
    assert_eq!(first.did.len(), 2, "{first:?}");
    assert!(first.did[0].contains("formatted") && first.did[1].contains("mounted at"), "{first:?}");
    let entries: Vec<_> = fs::read_dir(bench.volumes()).unwrap().collect();
    assert!(entries.is_empty(), "a volume for each directory: {entries:?}");
    assert_eq!(fs::metadata(bench.volumes()).unwrap().permissions().mode() & 0o777, 0o701);
    fs::write(bench.volumes().join("data"), "kept").unwrap();

    let again = bench.bring().await.unwrap();
    assert!(again.did.is_empty() && again.uuid == first.uuid, "{again:?}");
    let mounts = said("/usr/bin/findmnt", &["--noheadings", "--output", "TARGET", "--source", &bench.device]);
    assert_eq!(mounts.lines().count(), 1, "mounted twice: {mounts}");

    bench.off();
    let booted = bench.bring().await.unwrap();
    assert_eq!((booted.uuid, booted.did.len()), (first.uuid.clone(), 1));
    bench.off();
    bench.replaced();
    let moved = bench.bring().await.unwrap();
    assert_eq!((moved.uuid, moved.did.len()), (first.uuid, 1));
    assert_eq!(fs::read_to_string(bench.volumes().join("data")).unwrap(), "kept");
}

/// Whether the kernel lets this process grow a file system that is mounted: `CAP_SYS_RESOURCE`.
fn may_grow() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(set, 16).unwrap() >> 24 & 1 == 1
}

#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn a_disk_that_grew_is_used_to_its_end_mounted_or_not() {
    let bench = Bench::new();
    bench.bring().await.unwrap();
    fs::write(bench.volumes().join("data"), "kept").unwrap();
    bench.off();
    for (size, is_mounted) in [(2 * SIZE, false), (3 * SIZE, true)] {
        bench.grows_to(size);
        assert_eq!(bench.is_mounted(), is_mounted);
        let grown = bench.bring().await.unwrap();
        let told = grown.did.last().unwrap();
        let unused = content::unused(&File::open(&bench.device).unwrap(), size).unwrap();
        if may_grow() {
            assert!(told.contains("grown by 25") && unused.is_none(), "{grown:?}");
        } else {
            // It is told, and serves as it is.
            assert!(told.contains("Permission denied") && unused.is_some(), "{grown:?}");
        }
        assert_eq!(fs::read_to_string(bench.volumes().join("data")).unwrap(), "kept");
    }
    assert_eq!(bench.bring().await.unwrap().did.is_empty(), may_grow());
}

#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn what_is_somebodys_stays_byte_for_byte() {
    type Make = fn(&str);
    let photos = |device: &str| drop(said("/usr/sbin/mkfs.ext4", &["-q", "-F", "-L", "photos", device]));
    let swap = |device: &str| drop(said("/usr/sbin/mkswap", &[device]));
    let garbage = |device: &str| {
        File::options().write(true).open(device).unwrap().write_all_at(&[7; 512], 3 * MIB).unwrap();
    };
    let tail = |device: &str| {
        File::options().write(true).open(device).unwrap().write_all_at(b"x", SIZE - 1).unwrap();
    };
    let makers: [(Make, &str); 4] =
        [(photos, "`photos`"), (swap, "swap"), (garbage, "byte 3145728"), (tail, "byte 268435455")];
    for (make, words) in makers {
        let bench = Bench::new();
        make(&bench.device);
        let before = bench.bytes();
        let why = refused(bench.bring().await);
        assert!(why.contains(words) && why.contains("stays as it is"), "{why}");
        assert!(bench.bytes() == before && !bench.is_mounted(), "{words}");
    }
}

#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn a_partition_table_that_the_kernel_reads_is_refused_too() {
    let bench = Bench::new();
    let mut child = {
        #[expect(clippy::disallowed_methods, reason = "a test's own child")]
        let mut command = std::process::Command::new("/usr/sbin/sfdisk");
        command.args(["--quiet", "--no-reread", "--no-tell-kernel", &bench.device]);
        command.stdin(std::process::Stdio::piped()).spawn().unwrap()
    };
    child.stdin.take().unwrap().write_all(b"label: gpt\n,64M\n").unwrap();
    assert!(child.wait().unwrap().success());
    let before = bench.bytes();
    assert!(refused(bench.bring().await).contains("gpt"));
    assert!(bench.bytes() == before);
}

#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn another_disk_than_before_is_taken_only_by_a_persons_word() {
    let bench = Bench::new();
    let first = bench.bring().await.unwrap();
    bench.off();
    let other = Bench::new();
    let second = other.bring().await.unwrap();
    other.off();
    // The second machine gets the disk of the first, and then a blank one.
    other.detach();
    symlink(&bench.device, other.name()).unwrap();
    let why = refused(other.bring().await);
    assert!(why.contains(&first.uuid) && why.contains(&second.uuid), "{why}");
    assert!(!other.is_mounted());
    let blank = Bench::new();
    other.detach();
    symlink(&blank.device, other.name()).unwrap();
    assert!(refused(other.bring().await).contains("is blank, and this machine's has UUID"));
    assert_eq!(blank.content().await, Content::Blank);
    other.replaced();
    assert!(other.bring().await.unwrap().did[0].contains("formatted"));
}

#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn what_is_mounted_elsewhere_is_not_mounted_twice() {
    let (bench, other) = (Bench::new(), Bench::new());
    bench.bring().await.unwrap();
    other.detach();
    symlink(&bench.device, other.name()).unwrap();
    assert!(refused(other.bring().await).contains("is in use already"));
    // Something else lies where ours should.
    bench.detach();
    symlink(&other.device, bench.name()).unwrap();
    assert!(refused(bench.bring().await).contains("is not LUN 0: that is"));
    bench.detach();
    assert!(refused(bench.bring().await).contains("that is not there"));
    // In a boot in which we mounted it ourselves its name may go.
    let mounted = State::new(Some(&lun()), Standing::Mounted { uuid: "a".to_owned() });
    record::tell(&bench.layout(), &mounted).unwrap();
    assert_eq!(bench.bring().await.unwrap().uuid, "a");
}

#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn volumes_on_the_systems_disk_are_not_hidden() {
    let bench = Bench::new();
    for (name, is_hidden) in [("metadata.db", false), ("web_data", true)] {
        fs::create_dir_all(bench.volumes().join(name)).unwrap();
        let brought = bench.bring().await;
        if is_hidden {
            assert!(refused(brought).contains("1 volumes (`web_data`)"));
            assert!(!bench.is_mounted());
        } else {
            brought.unwrap();
            bench.off();
        }
    }
}

#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn a_disk_that_is_not_there_is_told_with_its_names_and_where_it_is_back_docker_starts() {
    let bench = Bench::new();
    bench.detach();
    let NotMounted::Absent(failed) = bench.bring().await.unwrap_err() else { panic!("refused") };
    assert!(failed.message.contains("by-lun/0`, ") && failed.message.contains("scsi1/lun0`"), "{failed:?}");
    let standing = Standing::Absent { said: failed.message.clone(), next: failed.next.unwrap() };
    record::tell(&bench.layout(), &State::new(Some(&lun()), standing)).unwrap();
    assert!(trouble(&bench.layout()).unwrap().starts_with(&failed.message));
    let (systemctl, started) = (bench.root.path().join("systemctl"), bench.root.path().join("started"));
    program(&systemctl, &format!("echo \"$*\" >> {}", started.display()));
    let said = look_again(&bench.layout(), &systemctl).await.unwrap();
    assert!(!said.changed && said.text == failed.message && !started.exists(), "{said:?}");
    bench.attach();
    assert!(look_again(&bench.layout(), &systemctl).await.unwrap().changed);
    assert_eq!(fs::read_to_string(&started).unwrap(), "start --no-block docker.service\n");
}

/// mkfs is killed, and all of us with it: before it wrote, in the middle, and when all but the mark was done.
#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn a_format_that_was_cut_short_is_begun_anew() {
    let scripts = [
        "exit 137",
        "/usr/bin/dd if=/dev/urandom of=$DEVICE bs=1M count=3 seek=5 conv=notrunc status=none; exit 137",
        "/usr/sbin/mkfs.ext4 \"$@\" && exit 137",
    ];
    for script in scripts {
        let bench = Bench::new();
        let mkfs = bench.root.path().join("mkfs");
        program(&mkfs, &format!("DEVICE={}\n{script}", bench.device));
        let tools = Tools { mkfs, ..Tools::default() };
        assert!(refused(bench.bring_with(&tools).await).contains("mkfs.ext4 ended with 137"), "{script}");
        assert_eq!(bench.content().await, Content::Unfinished, "{script}");
        bench.bring().await.unwrap();
        bench.off();
        assert!(matches!(bench.content().await, Content::Ours { .. }), "{script}");
    }
}

#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn a_mark_lets_nobody_format_what_is_not_ours() {
    let bench = Bench::new();
    said("/usr/sbin/mkfs.ext4", &["-q", "-F", "-L", "photos", &bench.device]);
    mark(&File::options().read(true).write(true).open(&bench.device).unwrap(), SIZE).unwrap();
    let before = bench.bytes();
    assert!(refused(bench.bring().await).contains("`photos`"));
    assert!(bench.bytes() == before);
}

#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn a_power_cut_is_mended_and_what_cannot_be_is_told_and_not_mounted() {
    let bench = Bench::new();
    bench.bring().await.unwrap();
    fs::write(bench.volumes().join("data"), "kept").unwrap();
    said("/usr/bin/sync", &["--file-system", bench.volumes().to_str().unwrap()]);
    // As it lies there while it is mounted: its journal must be played.
    let cut = bench.bytes();
    bench.off();
    fs::write(&bench.file, &cut).unwrap();
    said("/usr/sbin/blockdev", &["--flushbufs", &bench.device]);
    bench.bring().await.unwrap();
    assert_eq!(fs::read_to_string(bench.volumes().join("data")).unwrap(), "kept");
    bench.off();

    // The root directory is no directory any more.
    said("/usr/sbin/debugfs", &["-w", "-R", "clri <2>", &bench.device]);
    said("/usr/sbin/debugfs", &["-w", "-R", "ssv state 2", &bench.device]);
    let why = refused(bench.bring().await);
    assert!(why.contains("is damaged and is not mounted: e2fsck ended with 4"), "{why}");
    assert!(!bench.is_mounted());
}

#[tokio::test]
#[ignore = "its disks are nobody else's: run by `one_after_the_other`"]
async fn a_program_that_fails_formats_nothing_and_growth_that_fails_keeps_nobody_from_serving() {
    let bench = Bench::new();
    let before = bench.bytes();
    let tools = Tools { wipefs: "/usr/bin/false".into(), ..Tools::default() };
    assert!(refused(bench.bring_with(&tools).await).contains("cannot tell what lies on"));
    assert!(bench.bytes() == before);
    bench.bring().await.unwrap();
    bench.grows_to(2 * SIZE);
    // One that says that all is well and did nothing is not believed.
    for resize2fs in ["/usr/bin/false", "/usr/bin/true"] {
        let tools = Tools { resize2fs: resize2fs.into(), ..Tools::default() };
        let brought = bench.bring_with(&tools).await.unwrap();
        assert!(brought.did[0].contains("does not grow") && bench.is_mounted(), "{brought:?}");
    }
}

#[test]
fn settings_that_cannot_be_read_ask_for_the_disk_of_before() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::new(root.path());
    let write = |text: &str| {
        fs::create_dir_all(layout.config_file().parent().unwrap()).unwrap();
        fs::write(layout.config_file(), text).unwrap();
    };
    assert_eq!(asked(&layout).0, None);
    write("host: { data_disk: { lun: 0 } }\n");
    assert_eq!(asked(&layout), (Some(lun()), None));
    let kept = Settings::load(&layout).unwrap();
    write("host: [\n");
    assert!(matches!(asked(&layout), (None, Some(_))));
    publish::write_json(&layout.last_settings(), &kept).unwrap();
    assert!(matches!(asked(&layout), (Some(disk), Some(_)) if disk == lun()));
    fs::remove_file(layout.last_settings()).unwrap();
    record::remember(&layout, "a", &lun()).unwrap();
    assert!(matches!(asked(&layout), (Some(disk), Some(_)) if disk == lun()));
    fs::remove_file(layout.config_file()).unwrap();
    assert_eq!(asked(&layout), (Some(lun()), None));
}
