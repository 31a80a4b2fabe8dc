import { dictionary } from "../../i18n/words";

export const words = dictionary({
  en: {
    title: "Search: {q}",
    deliveries: "Deliveries with this key",
    messages: "Messages sent with this key",
    nothing: "Nothing has this id or key",
    nothingWhat: "Ids and keys are compared whole. A delivery in its first flight has no row yet.",
    notRecorded:
      "Of what {groups} handled at the first attempt no ids and keys are kept; search by topic:partition:offset.",
    short: "Type a message id or a key.",
  },
  zh: {
    title: "搜索：{q}",
    deliveries: "使用此键的投递",
    messages: "以此键发送的消息",
    nothing: "没有此 ID 或键",
    nothingWhat: "ID 和键按完整值比较。首次处理中的投递还没有记录。",
    notRecorded: "{groups} 首次尝试即处理成功的消息不保留 ID 和键；请按 主题:分区:偏移量 搜索。",
    short: "请输入消息 ID 或键。",
  },
});
