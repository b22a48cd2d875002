//! Where the Docker Engine keeps images: in its own directory, or in containerd's, as a fresh Engine 29 does.

/// containerd's, unless it is told otherwise; the Engine does not say.
const CONTAINERD: &str = "/var/lib/containerd";
/// The word of `GET /info` for it, in `DriverStatus`.
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";
/// The end of the socket of the machine's containerd. One that dockerd started itself has another, and keeps what it has in the Engine's
/// own directory.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// containerd's directory where images are in it, by `DriverStatus` and `Containerd.Address` of `GET /info` (the latter since API 1.46);
/// none where they are in the Engine's own.
pub fn of_containerd(driver_status: Option<&[Vec<String>]>, address: Option<&str>) -> Option<&'static str> {
    let mut words = driver_status.unwrap_or_default().iter().flatten();
    let is_machines = address.is_none_or(|address| address.ends_with(SOCKET));
    (is_machines && words.any(|word| word == SNAPSHOTTER)).then_some(CONTAINERD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_says_whose_it_is() {
        let said = |key: &str, value: &str| vec![vec![key.to_owned(), value.to_owned()]];
        let theirs = said("driver-type", SNAPSHOTTER);
        let machines = Some("/run/containerd/containerd.sock");
        for (status, address, place) in [
            (Some(theirs.as_slice()), machines, Some("/var/lib/containerd")),
            (Some(&theirs), None, Some("/var/lib/containerd")),
            (Some(&theirs), Some("/var/run/docker/containerd/containerd.sock"), None),
            (Some(&said("Backing Filesystem", "extfs")), machines, None),
            (None, machines, None),
        ] {
            assert_eq!(of_containerd(status, address), place, "{status:?} {address:?}");
        }
    }
}
