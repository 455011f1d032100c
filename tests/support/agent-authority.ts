// The library below fills a registry by decorators; the polyfill they need is imported for its effect alone.
// oxlint-disable-next-line import/no-unassigned-import
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import {
  BasicConstraintsExtension,
  Pkcs10CertificateRequest,
  PublicKey,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

/** A certificate authority for tests that play the control plane's part. */
export interface TestAuthority {
  readonly rootPem: string;
  /** A certificate for 127.0.0.1 with its key; the chain includes the root. */
  issueServer(): Promise<{ chainPem: string; keyPem: string }>;
  /** A client certificate for a PKCS #10 request. */
  issueClient(csrPem: string): Promise<string>;
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** A new authority with a key of its own. */
export async function makeTestAuthority(): Promise<TestAuthority> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const validity = { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 3_600_000) };
  const root = await X509CertificateGenerator.createSelfSigned(
    {
      ...validity,
      name: "CN=test root",
      keys,
      signingAlgorithm: algorithm,
      extensions: [new BasicConstraintsExtension(true, 1, true)],
    },
    webcrypto,
  );
  const issue = async (subject: string, publicKey: PublicKey, extensions: SubjectAlternativeNameExtension[]) => {
    const certificate = await X509CertificateGenerator.create(
      {
        ...validity,
        subject,
        issuer: root.subject,
        publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: algorithm,
        extensions,
      },
      webcrypto,
    );
    return `${certificate.toString("pem")}\n`;
  };
  const rootPem = `${root.toString("pem")}\n`;
  return {
    rootPem,
    async issueServer() {
      const serverKeys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
      const names = new SubjectAlternativeNameExtension([{ type: "ip", value: "127.0.0.1" }]);
      const leaf = await issue(
        "CN=control plane",
        new PublicKey(await webcrypto.subtle.exportKey("spki", serverKeys.publicKey)),
        [names],
      );
      const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", serverKeys.privateKey));
      const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
      const keyPem = `-----BEGIN PRIVATE KEY-----\n${lines.join("\n")}\n-----END PRIVATE KEY-----\n`;
      return { chainPem: leaf + rootPem, keyPem };
    },
    async issueClient(csrPem) {
      const request = new Pkcs10CertificateRequest(csrPem);
      if (!(await request.verify(webcrypto))) throw new Error("the request is not signed by its own key");
      return await issue(request.subject, request.publicKey, []);
    },
  };
}
