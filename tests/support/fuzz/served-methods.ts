import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { createFileRegistry, type DescMethod, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

const root = join(import.meta.dirname, "../../..");

/** Every method of every service in the protos for clients and agents, so that a new one is never forgotten. */
export async function findServedMethods(): Promise<DescMethod[]> {
  const { stdout } = await promisify(execFile)("node_modules/.bin/buf", ["build", "-o", "-"], {
    cwd: root,
    encoding: "buffer",
    env: { ...process.env, BUF_CACHE_DIR: join(root, ".coppice/buf") },
    maxBuffer: 64 * 1024 * 1024,
  });
  return [...createFileRegistry(fromBinary(FileDescriptorSetSchema, stdout))]
    .filter((type) => type.kind === "service")
    .filter(({ typeName }) => /^coppice\.(control|agent)\./.test(typeName))
    .flatMap(({ methods }) => methods);
}
