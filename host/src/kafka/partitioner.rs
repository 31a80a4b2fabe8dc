//! Chooses the partition and the relay shard of a key.
//!
//! Both must be the same on every node and in every version. The partition must
//! also be the one that a Java producer chooses: messages of one key from two
//! senders would otherwise be in two partitions and lose their order.

/// The seed of Kafka's murmur2.
const MURMUR2_SEED: u32 = 0x9747_b28c;
/// The multiplier of murmur2.
const MURMUR2_MULTIPLIER: u32 = 0x5bd1_e995;

/// The relay shard of a message: of its topic and key, so that one relay sends
/// a key's messages in order; of its id when it has no key, since then any
/// order will do.
#[must_use]
pub fn shard_of(topic: &str, key: Option<&[u8]>, id: &str, shards: u32) -> i32 {
    let mut hash = fnv1a(FNV_OFFSET, topic.as_bytes());
    // A byte that no topic contains keeps ("ab", "c") and ("a", "bc") apart.
    hash = fnv1a(hash, &[0]);
    hash = fnv1a(hash, key.unwrap_or(id.as_bytes()));
    // The low bits of FNV-1a mix badly for short inputs: fold the high ones in.
    hash ^= hash >> 32;
    i32::try_from(hash % u64::from(shards.max(1))).unwrap_or(0)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    }
    hash
}

/// The partition that Java's default partitioner takes for `key`.
#[must_use]
pub fn murmur2_partition(key: &[u8], partitions: i32) -> i32 {
    i32::try_from(murmur2_hash(key) % u32::try_from(partitions).unwrap_or(1).max(1)).unwrap_or(0)
}

/// The hash from which Java's default partitioner takes the remainder: it
/// clears the sign bit first.
#[must_use]
pub fn murmur2_hash(key: &[u8]) -> u32 {
    murmur2(key) & 0x7fff_ffff
}

/// Java's `Utils.murmur2`, as an unsigned number.
fn murmur2(data: &[u8]) -> u32 {
    let mut hash = MURMUR2_SEED ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MURMUR2_MULTIPLIER);
        k ^= k >> 24;
        hash = hash.wrapping_mul(MURMUR2_MULTIPLIER) ^ k.wrapping_mul(MURMUR2_MULTIPLIER);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(MURMUR2_MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MURMUR2_MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that Kafka's own `UtilsTest` expects.
    #[test]
    fn murmur2_is_java_s() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_still_names_a_partition() {
        assert_eq!(murmur2_partition(b"21", 3), (-973_932_308i32 & 0x7fff_ffff) % 3);
        for n in 0..1_000 {
            let partition = murmur2_partition(format!("key-{n}").as_bytes(), 7);
            assert!((0..7).contains(&partition));
        }
    }

    #[test]
    fn shards_are_of_the_key_and_spread() {
        assert_eq!(shard_of("order", Some(b"7"), "a", 64), shard_of("order", Some(b"7"), "b", 64));
        assert_ne!(shard_of("ab", Some(b"c"), "", 1 << 30), shard_of("a", Some(b"bc"), "", 1 << 30));
        let mut counts = [0u32; 64];
        for n in 0..6_400 {
            counts[usize::try_from(shard_of("order", Some(format!("k{n}").as_bytes()), "", 64)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (40..200).contains(count)), "{counts:?}");
    }
}
