/** What a thread that digests a stream is told: its chunks, and then that this was all. */
export type DigestQuestion = { readonly is: "take"; readonly bytes: Uint8Array<ArrayBuffer> } | { readonly is: "end" };

/** What it answers: each chunk when it is digested, and the digest. */
export type DigestAnswer =
  | { readonly is: "taken"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly is: "digest"; readonly sha256: string };
