import { webcrypto } from "node:crypto";
import { newId } from "@coppice/proto/kit/id";
import { certificateFingerprint } from "@coppice/proto/kit/tls";
import type { Catalog } from "../catalog/catalog.ts";
import { insertAuthority, listAuthorities, lockAuthorities } from "../catalog/fleet/authority.ts";
import { makeRoot, parseRoot, type Root } from "./certificates.ts";

/** Seals and opens the root's key; associated with the id of its row. */
export interface KeySealing {
  seal(id: string, plaintext: Uint8Array): Uint8Array;
  open(id: string, sealed: Uint8Array): Uint8Array;
}

/** The control plane's own certificate authority, its key opened. */
export interface Authority {
  /** The root that signs. */
  readonly root: Root;
  /** Every root that is trusted, the signing one first, PEM. */
  readonly rootsPem: readonly string[];
  /** Of the signing root, as enrolment tokens carry it. */
  readonly fingerprint: string;
}

/** Opens the authority, which the first control plane on a catalog makes. Errors: as `sealing.open`. */
export async function openAuthority(catalog: Catalog, sealing: KeySealing): Promise<Authority> {
  const rows = await catalog.transaction(async (tx) => {
    const there = await listAuthorities(tx);
    if (there.length > 0) return there;
    await lockAuthorities(tx);
    // Another replica may have been faster.
    const now = await listAuthorities(tx);
    if (now.length > 0) return now;
    const { certificatePem, privateKey } = await makeRoot(new Date());
    const key = new Uint8Array(await webcrypto.subtle.exportKey("pkcs8", privateKey));
    const id = `ca_${newId("sec").slice(4)}`;
    return [await insertAuthority(tx, { id, certificatePem, sealedKey: sealing.seal(id, key) })];
  });
  const [signing] = rows;
  if (signing === undefined) throw new Error("the catalog has no root");
  const root = await parseRoot(signing.certificatePem, sealing.open(signing.id, signing.sealedKey));
  return {
    root,
    rootsPem: rows.map(({ certificatePem }) => certificatePem),
    fingerprint: certificateFingerprint(signing.certificatePem),
  };
}
