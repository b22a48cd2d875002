//! `host.data_disk`: which disk of this machine Docker's volumes lie on. It says where the disk is found, never which one it is: that is
//! what `landfall host disk` remembers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::values::InvalidValue;

/// A machine of Azure has at most 64 data disks.
const LUN_MOST: u8 = 63;

/// Where the disk is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataDisk {
    /// At this LUN of the virtual machine, whether it shows its disks as SCSI or as `NVMe`.
    Lun(Lun),
    /// By this path.
    Path(DevicePath),
}

/// The number that a data disk was attached with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Lun(u8);

/// A path below `/dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DevicePath(String);

impl DevicePath {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for DataDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lun(lun) => write!(f, "LUN {lun}"),
            Self::Path(path) => write!(f, "`{}`", path.0),
        }
    }
}

impl From<Lun> for u8 {
    fn from(lun: Lun) -> Self {
        lun.0
    }
}

impl From<DevicePath> for String {
    fn from(path: DevicePath) -> Self {
        path.0
    }
}

impl TryFrom<u8> for Lun {
    type Error = InvalidValue;

    fn try_from(number: u8) -> Result<Self, InvalidValue> {
        if number <= LUN_MOST {
            return Ok(Self(number));
        }
        Err(InvalidValue::new("LUN", &number.to_string(), "expected 0 to 63, as the disk was attached with"))
    }
}

impl TryFrom<String> for DevicePath {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b':');
        let valid = text.starts_with("/dev/")
            && text.bytes().all(letter)
            && text[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
        if valid {
            return Ok(Self(text));
        }
        Err(InvalidValue::new("disk", &text, "expected a path that stays, as in `/dev/disk/by-id/scsi-1`"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_disk_is_a_lun_or_a_path_and_nothing_else() {
        for (value, shown) in [
            (json!({ "lun": 0 }), Some("LUN 0")),
            (json!({ "lun": 63 }), Some("LUN 63")),
            (json!({ "path": "/dev/disk/by-id/nvme-eui.1" }), Some("`/dev/disk/by-id/nvme-eui.1`")),
            (json!({ "lun": 64 }), None),
            (json!({ "lun": -1 }), None),
            (json!({ "lun": "0" }), None),
            (json!({ "path": "/dev/../etc/passwd" }), None),
            (json!({ "path": "/dev//sdc" }), None),
            (json!({ "path": "/dev/" }), None),
            (json!({ "path": "sdc" }), None),
            (json!({ "path": "/dev/sd c" }), None),
            (json!({ "lun": 0, "path": "/dev/sdc" }), None),
            (json!({ "uuid": "x" }), None),
            (json!({}), None),
            (json!("/dev/sdc"), None),
        ] {
            let read = serde_json::from_value::<DataDisk>(value.clone());
            assert_eq!(read.as_ref().ok().map(DataDisk::to_string).as_deref(), shown, "{value}");
            if let Ok(disk) = read {
                assert_eq!(serde_json::to_value(&disk).unwrap(), value);
            }
        }
        assert_eq!(serde_json::from_value::<Option<DataDisk>>(Value::Null).unwrap(), None);
    }
}
