import { writeFileSync } from "node:fs";
import type { SerializedError } from "vitest";
import type { Reporter, TestModule } from "vitest/node";

/**
 * Vitest's reporter for deploy/verify: names every skipped test with its reason and writes "passed failed skipped" to
 * the file that VERIFY_COUNTS names. A file that fails outside of its tests counts as one failure, and so does
 * each error that no test caught.
 */
export default class VerifyReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    let passed = 0;
    let failed = unhandled.length;
    let skipped = 0;
    for (const module of modules) {
      let failedHere = 0;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === "passed") passed += 1;
        else if (result.state === "failed") failedHere += 1;
        else {
          skipped += 1;
          const why = result.state === "skipped" && result.note ? result.note : "no reason given";
          console.log(`skipped: ${module.relativeModuleId} > ${test.fullName}: ${why}`);
        }
      }
      failed += failedHere === 0 && !module.ok() ? 1 : failedHere;
    }
    const path = process.env["VERIFY_COUNTS"];
    if (path) writeFileSync(path, `${passed} ${failed} ${skipped}\n`);
  }
}
