import { X509Certificate } from "node:crypto";
import { expect, test } from "vitest";
import { certificateFingerprint, splitPemChain } from "./tls.ts";

const first = `-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUUMnnzZxtbSqU7YKoqBPpo56lLicwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJYS5leGFtcGxlMCAXDTI2MTEyMTAxMzIzN1oYDzIxMjYxMDI4
MDEzMjM3WjAUMRIwEAYDVQQDDAlhLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASYrZ7utCa54yE8CRnanR9uCZ8AwPIMwaPrMq2xwp6R/BXNixtZsbRL
uOZFg0vTkeAWEfESPCY+qx9/GBDzse+lo1MwUTAdBgNVHQ4EFgQUKLjW8FU3Evtm
rqWG81a5GYor8SAwHwYDVR0jBBgwFoAUKLjW8FU3EvtmrqWG81a5GYor8SAwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEA3Dsgm3lzP3IZWTdf0EE3
n3Bgjv8jGoUEbjxcDvrYAPMCIFd1spqA0BjljqimJEn4Rwz5eH5grmuRHYwagbMW
SGbG
-----END CERTIFICATE-----
`;
const second = `-----BEGIN CERTIFICATE-----
MIIBgDCCASWgAwIBAgIUMiarXyTiOm1mOlbYO1TZ6XwOw+wwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJYi5leGFtcGxlMCAXDTI2MTEyMTAxMzIzN1oYDzIxMjYxMDI4
MDEzMjM3WjAUMRIwEAYDVQQDDAliLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARGQPzBT4OSHXFRnOEfqhsUffV5XJtHbDwsxF8Qze0ka1aNcgt7w9Tc
+1Fcryr628bHmu8MPt6FuvTagIy+nfZBo1MwUTAdBgNVHQ4EFgQUpi8CpjX4226f
1kk1Ad4s4QRj3zQwHwYDVR0jBBgwFoAUpi8CpjX4226f1kk1Ad4s4QRj3zQwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEA1oSkktcjZbSleeFbgYhT
ZQoiVELzSCqEGCuh8oREEmgCIQDN8/rzYKzCgMzRKUq3lvz7ouG/PtbDVbWAgy+w
UA77Jg==
-----END CERTIFICATE-----
`;
// As `openssl x509 -fingerprint -sha256` prints it, without its colons.
const firstFingerprint = "sha256:ff05f520cd99e8100b7dfa51cb349547c5efb4ebd094c05f2c0213d6c94d124f";

test("the fingerprint is that of openssl, from PEM and from DER", () => {
  expect(certificateFingerprint(first)).toBe(firstFingerprint);
  expect(certificateFingerprint(new X509Certificate(first).raw)).toBe(firstFingerprint);
  expect(certificateFingerprint(second)).not.toBe(firstFingerprint);
});

test("what is no certificate has no fingerprint", () => {
  expect(() => certificateFingerprint("nonsense")).toThrow(/PEM|no start line/i);
});

test("a chain is split in its order, text around the blocks left out", () => {
  expect(splitPemChain(`# root\n${first}subject=b\n${second}`)).toEqual([first, second]);
  expect(splitPemChain(first.replaceAll("\n", "\r\n")).map(certificateFingerprint)).toEqual([firstFingerprint]);
  expect(splitPemChain("")).toEqual([]);
});
