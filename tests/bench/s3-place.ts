import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { newBucket } from "../support/ceph/s3-place.ts";

/** A new bucket of a real S3 server, as ours and the peers get at it: by https, both with the same keys. */
export interface S3Place {
  /** The location and credentials that a repository there is created with. */
  readonly repository: { readonly location: object; readonly credentials: object };
  /** Environment in which the `aws` of the scripts finds the server. */
  readonly env: NodeJS.ProcessEnv;
  readonly bucket: BenchBucket;
}

/** How the peers get at the bucket. */
export interface BenchBucket {
  readonly name: string;
  readonly endpoint: string;
  readonly region: string;
  /** Path of the certificate that the server's is checked by. */
  readonly caFile: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Address of what lies there, for `aws s3`. */
  url(path: string): string;
}

/** Opens one, and writes into the folder what the peers need; the server ends with this process. */
export async function openS3Place(folder: string): Promise<S3Place> {
  const why = whyNoCephLab() ?? (existsSync("/usr/bin/aws") ? undefined : "not installed: awscli");
  if (why !== undefined) throw new Error(why);
  const lab = await openCephLab(process.pid);
  const { tlsEndpoint: endpoint, caPem, region } = lab;
  const { accessKeyId, secretAccessKey } = lab.owner;
  const { bucket } = await newBucket(lab);
  const [caFile, configFile] = [join(folder, "s3-ca.pem"), join(folder, "s3-config")];
  await writeFile(caFile, caPem);
  await writeFile(configFile, "[default]\ns3 =\n  addressing_style = path\n");
  return {
    repository: {
      location: { s3: { bucket, prefix: "ours", endpoint, region, caPem } },
      credentials: { write: { s3: { accessKeyId, secretAccessKey } } },
    },
    env: {
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      AWS_CA_BUNDLE: caFile,
      AWS_CONFIG_FILE: configFile,
      AWS_DEFAULT_REGION: region,
      AWS_EC2_METADATA_DISABLED: "true",
      ENDPOINT: endpoint,
    },
    bucket: {
      name: bucket,
      endpoint,
      region,
      caFile,
      accessKeyId,
      secretAccessKey,
      url: (path) => `s3://${bucket}/${path}`,
    },
  };
}
