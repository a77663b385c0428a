//! The host's memory as a memory space.

use poniard_interface::{AllocateError, Buffer, Chunk, MemorySpace, SpaceId, SpaceInfo};

/// The memory that all processors of the host share; its chunks are [`Buffer`]s.
#[derive(Clone, Copy, Debug)]
pub struct HostSpace;

impl MemorySpace for HostSpace {
    fn info(&self) -> SpaceInfo {
        SpaceInfo { id: SpaceId::HOST, name: "host".into(), capacity_bytes: capacity_bytes(), imports: true }
    }

    fn allocate(&self, len_bytes: u64, zeroed: bool) -> Result<Box<dyn Chunk>, AllocateError> {
        if len_bytes > isize::MAX as u64 {
            return Err(AllocateError::new(len_bytes, "it is more than an address has"));
        }
        match Buffer::<u8>::from_raw(crate::arena::allocate_as(len_bytes, zeroed)?) {
            Ok(buffer) => Ok(Box::new(buffer)),
            Err(_) => unreachable!("bytes are elements of one byte"),
        }
    }
}

/// The machine's memory, in bytes.
#[cfg(target_os = "linux")]
fn capacity_bytes() -> Option<u64> {
    let info = rustix::system::sysinfo();
    info.totalram.checked_mul(u64::from(info.mem_unit))
}

#[cfg(not(target_os = "linux"))]
fn capacity_bytes() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_of_host_memory_is_read_and_written_within_its_bounds() {
        let mut chunk = HostSpace.allocate(10, true).unwrap();
        assert_eq!((chunk.info().space, chunk.info().len_bytes), (SpaceId::HOST, 10));
        chunk.write(7, &[1, 2, 3]).unwrap();
        let mut bytes = [9; 4];
        chunk.read(6, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 1, 2, 3]);
        assert_eq!(chunk.host_bytes().unwrap()[9], 3);
        let error = chunk.write(8, &[1, 2, 3]).unwrap_err();
        assert!(error.to_string().contains("3 bytes at offset 8 of a chunk of 10 bytes"), "{error}");
        assert!(chunk.read(u64::MAX, &mut bytes).is_err());
    }
}
