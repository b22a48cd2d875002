//! What this process does so that values in its own memory stay there: no core dump, no debugger of the same user, and, where the
//! service manager allows it, no page in swap. It never fails for want of the last.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// The kernel's `MCL_ONFAULT`: a page is locked once it is used, so that thread stacks do not cost what they could grow to.
const ON_FAULT: i32 = 4;

/// Does all of it.
pub fn keep_in_memory() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    lock();
    Ok(())
}

fn lock() {
    // Under a limit the lock would be granted now, and an allocation refused later.
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if soft == RLIM_INFINITY => {}
        Ok(_) | Err(_) => {
            tracing::debug!(
                "memory is not locked: this process has a limit; next: `LimitMEMLOCK=infinity` in its unit"
            );
            return;
        }
    }
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | MlockAllFlags::from_bits_retain(ON_FAULT);
    if let Err(error) = mlockall(flags) {
        tracing::debug!("memory is not locked: {error}");
    }
}
