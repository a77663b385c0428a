//! The identity of a type across separately compiled files.

use std::fmt;

/// Names a type so that two files compiled apart agree on it, or agree that they do not.
///
/// `std::any::TypeId` and `type_name` are neither stable nor unique across compilers, so the key is made of facts: a hash of the
/// type's path and version, its size and alignment, and for types of unspecified layout (`repr(Rust)`) a hash of the build.
/// Keys that differ in any of them are different types; a downcast then gives nothing, never undefined behaviour.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeKey {
    /// FNV-1a, 128 bits, of `module_path::Name@version`, generics folded in; high half first.
    pub name_hash: [u64; 2],
    /// Hash of compiler and crate version for types whose layout the compiler may choose; 0 for `repr(C)` and primitives.
    pub build: u64,
    /// `size_of`, in bytes.
    pub size: u64,
    /// `align_of`, in bytes.
    pub align: u64,
}

/// The state that [`fnv`] begins with.
pub const FNV_OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// FNV-1a over `bytes`, continued from `state`. Source: RFC 9923.
pub const fn fnv(mut state: u128, bytes: &[u8]) -> u128 {
    let mut index = 0;
    while index < bytes.len() {
        state = (state ^ bytes[index] as u128).wrapping_mul(FNV_PRIME);
        index += 1;
    }
    state
}

impl TypeKey {
    /// The key of `T` under a stable name; `build` is 0 when the layout of `T` is fixed by its declaration.
    pub const fn of<T>(name: &str, build: u64) -> Self {
        let hash = fnv(FNV_OFFSET, name.as_bytes());
        Self { name_hash: [(hash >> 64) as u64, hash as u64], build, size: size_of::<T>() as u64, align: align_of::<T>() as u64 }
    }

    /// The key of a generic type `T` whose parameter has the key `parameter`: the parameter's name is folded into the name,
    /// and its build into the build.
    pub const fn with_parameter(self, parameter: Self) -> Self {
        let mut state = ((self.name_hash[0] as u128) << 64) | self.name_hash[1] as u128;
        state = fnv(state, b"<");
        state = fnv(state, &parameter.name_hash[0].to_le_bytes());
        state = fnv(state, &parameter.name_hash[1].to_le_bytes());
        state = fnv(state, &parameter.size.to_le_bytes());
        Self {
            name_hash: [(state >> 64) as u64, state as u64],
            build: if parameter.build == 0 { self.build } else { self.build.rotate_left(1) ^ parameter.build },
            size: self.size,
            align: self.align,
        }
    }

    /// The key of a type with a constant parameter: its value, as a number, is folded into the name.
    pub const fn with_constant(self, value: u128) -> Self {
        let state = ((self.name_hash[0] as u128) << 64) | self.name_hash[1] as u128;
        // Not into the build, where several values could cancel each other.
        let state = fnv(fnv(state, b"="), &value.to_le_bytes());
        Self { name_hash: [(state >> 64) as u64, state as u64], ..self }
    }

    /// A hash of what may change the layout of a `repr(Rust)` type: the compiler and the version of the crate that declares it.
    pub const fn build_of(crate_version: &str) -> u64 {
        let state = fnv(fnv(FNV_OFFSET, crate::header::RUSTC.as_bytes()), crate_version.as_bytes());
        (state >> 64) as u64 ^ state as u64
    }
}

impl fmt::Display for TypeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}/{}", self.name_hash[0], self.name_hash[1], self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_names_builds_sizes_and_parameters_apart() {
        let base = TypeKey::of::<u32>("a::B@1", 0);
        assert_eq!(base, TypeKey::of::<u32>("a::B@1", 0));
        assert_ne!(base, TypeKey::of::<u32>("a::B@2", 0));
        assert_ne!(base, TypeKey::of::<u32>("a::B@1", 7));
        assert_ne!(base, TypeKey::of::<u64>("a::B@1", 0));
        let of_f32 = base.with_parameter(TypeKey::of::<f32>("f32", 0));
        let of_f64 = base.with_parameter(TypeKey::of::<f64>("f64", 0));
        assert_ne!(of_f32, of_f64);
        assert_ne!(of_f32, base);
        assert_ne!(of_f32.build, base.with_parameter(TypeKey::of::<f32>("f32", 9)).build);
    }

    #[test]
    fn the_hash_is_fnv_1a_128() {
        // The published test vector for "a".
        assert_eq!(fnv(FNV_OFFSET, b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
