// Mu-law (ITU-T G.711) as samples between -1 and 1.

function decoded(byte) {
  const bits = ~byte & 0xff;
  // 0x84 is the bias, which makes each segment twice as long as the one before it.
  const magnitude = (((bits & 0x0f) << 3) + 0x84) << ((bits >> 4) & 7);
  return (bits & 0x80 ? 0x84 - magnitude : magnitude - 0x84) / 32768;
}

const DECODED = Float32Array.from({ length: 256 }, (_, byte) => decoded(byte));

/** Return the samples of bytes of mu-law. */
export const samplesOf = (bytes) => Float32Array.from(bytes, (byte) => DECODED[byte]);
