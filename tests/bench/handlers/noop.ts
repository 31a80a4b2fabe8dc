import { handler } from "courier-sdk";

/** Does nothing with the event that was read from its JSON body. */
export default handler({ group: "noop", topics: ["bench"] }, () => {});
