import { openS3 } from "../../agent/src/storage/s3/s3.ts";
import { openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, littlePatience, newBucket } from "../support/ceph/s3-place.ts";
import { describeStorage } from "./storage.ts";

const signal = new AbortController().signal;

for (const scheme of ["http", "https"] as const) {
  describeStorage(
    `a bucket by ${scheme}`,
    async () => {
      const lab = await openCephLab();
      const tls = { endpoint: lab.tlsEndpoint, caPem: lab.caPem, prefix: "some/prefix" };
      const location = await newBucket(lab, scheme === "https" ? tls : {});
      const credentials = { write: credentialOf(lab.owner) };
      return {
        // Ten thousand once are enough; each is a request.
        listedKeys: scheme === "http" ? 10_000 : 2_000,
        longestKeyBytes: 1024 - (location.prefix === "" ? 0 : location.prefix.length + 1),
        open: (operationId) =>
          openS3(location, { operationId, credentials, conditionalPut: true, signal }, littlePatience),
        async [Symbol.asyncDispose]() {},
      };
    },
    whyNoCephLab(),
  );
}
