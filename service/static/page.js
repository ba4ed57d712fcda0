/* Starts the page's parts. Each file of this folder is one of them; there is no build step. */

import { startAccess } from "./access.js";
import { startGenerate } from "./generate.js";
import { watch } from "./readiness.js";
import { startVerdict } from "./verdict.js";
import { startVerify } from "./verify.js";
import { $ } from "./words.js";

startAccess();
startGenerate();
startVerify();
startVerdict();

for (const [area, form] of [["prompt", "generate"], ["text", "verify"]])
  $(area).addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    $(form).requestSubmit();
  });

watch();
