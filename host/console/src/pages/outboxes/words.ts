import { dictionary } from "../../i18n/words";

export const words = dictionary({
  en: {
    title: "Outboxes",
    lead: "Tables in senders' own databases, whose committed rows are relayed to Kafka.",
    name: "Outbox",
    state: "State",
    running: "running",
    failing: "failing",
    starting: "starting",
    pending: "Pending",
    oldest: "Oldest",
    relayed: "Relayed",
    refused: "Refused",
    table: "Table",
    database: "Database",
    node: "Node",
    why: "Why",
    empty: "No outboxes are configured",
    emptyWhat:
      "A service that inserts a row into an outbox in its own transaction gets its message sent if, and only if, that transaction commits. Name the database in courier.toml, and make the table:",
  },
  zh: {
    title: "发件箱",
    lead: "发送方自己数据库中的表；已提交的行会被转发到 Kafka。",
    name: "发件箱",
    state: "状态",
    running: "运行中",
    failing: "出错",
    starting: "启动中",
    pending: "待发",
    oldest: "最早一行",
    relayed: "已转发",
    refused: "已拒绝",
    table: "表",
    database: "数据库",
    node: "节点",
    why: "原因",
    empty: "尚未配置发件箱",
    emptyWhat:
      "服务在自己的事务中向发件箱插入一行，当且仅当该事务提交时消息才会发出。在 courier.toml 中写明数据库，并建表：",
  },
});
