//! The value of a secret: bytes that are wiped when they are dropped. It cannot be printed, copied or serialized: its one way out is
//! [`Value::bytes`], for the file that it is written to.

use std::fmt;

use zeroize::Zeroizing;

/// A value.
pub struct Value(Zeroizing<Vec<u8>>);

impl Value {
    /// Takes it over; what is given is not left behind.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// What it is.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_print() {
        assert_eq!(format!("{:?}", Some(Value::new(b"hunter2".to_vec()))), "Some(Value(..))");
    }
}
