/* Signed receipts, as files: a link could not carry the API key. */

import { clearError, showError } from "./forms.js";
import { call } from "./server.js";
import { announce, save } from "./words.js";

export async function saveReceipt(id, errorBox) {
  clearError(errorBox);
  try {
    const { raw } = await call(`receipts/${encodeURIComponent(id)}`);
    save(`countersign-receipt-${id}.json`, raw);
    announce("Receipt saved.");
  } catch (error) {
    showError(errorBox, error);
  }
}
