import { createHash } from "node:crypto";
import { parentPort } from "node:worker_threads";
import type { DigestAnswer, DigestQuestion } from "./digest-task.ts";

// Runs on a thread of its own: the digest of one stream, whose chunks come and go without being copied.
const hash = createHash("sha256");

parentPort?.on("message", (question: DigestQuestion) => {
  if (question.is === "end") {
    parentPort?.postMessage({ is: "digest", sha256: hash.digest("hex") } satisfies DigestAnswer, []);
    return;
  }
  const { bytes } = question;
  hash.update(bytes);
  parentPort?.postMessage({ is: "taken", bytes } satisfies DigestAnswer, [bytes.buffer]);
});
