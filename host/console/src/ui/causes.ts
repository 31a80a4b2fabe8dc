/** Why something stands still, in a few words, by the code that the host gives it. */
import { useCallback } from "react";
import { useWords } from "../i18n/context";
import { dictionary } from "../i18n/words";

const words = dictionary({
  en: {
    config_refused: "the configuration file is refused",
    denied: "Kafka denies access",
    foreign_assignor: "another consumer uses the group",
    log_unknown: "its log cannot be read",
    no_binding: "nobody runs it",
    no_consumer: "its consumer does not start",
    no_owner: "no host owns its partitions",
    no_room: "the host has no room for a handler",
    no_topic_ids: "the broker tells no topic ids",
    node_name_taken: "two hosts use one node name",
    older_partition_not_passed: "it waits for older partitions",
    outbox_column: "a column of the outbox is wrong",
    outbox_database: "the outbox's database fails",
    outbox_database_missing: "the outbox's database is missing",
    outbox_full: "the outbox waits for room",
    outbox_locked: "the outbox's table is locked",
    outbox_login: "the outbox's login is refused",
    outbox_permission: "the outbox's user lacks a right",
    outbox_pooler: "a pooler stands before the outbox",
    outbox_read_only: "the outbox's database is read-only",
    outbox_slow: "the outbox's database is slow",
    outbox_store: "the store does not take the outbox's rows",
    outbox_table: "the outbox's table is wrong",
    outbox_table_missing: "the outbox's table is missing",
    outbox_topic_waits: "rows for a topic wait",
    outbox_unreachable: "the outbox's database is away",
    outbox_url: "the outbox's URL is wrong",
    parked_full: "too much is parked",
    partition_silent: "a partition is silent",
    pauses_unknown: "it is not known what is paused",
    start_unknown: "it is not known where to start",
    store_away: "the store is away",
    topic_created_anew: "its topic was created anew",
    topic_missing: "its topic is missing",
    topic_refused: "Kafka refuses the topic",
    topic_unavailable: "its topic is away",
    undelivered_full: "too much is undelivered",
    not_created: "a topic cannot be created",
  },
  zh: {
    config_refused: "配置文件被拒绝",
    denied: "Kafka 拒绝访问",
    foreign_assignor: "消费组被其他消费者占用",
    log_unknown: "无法读取其日志",
    no_binding: "没有绑定运行它",
    no_consumer: "消费者无法启动",
    no_owner: "没有主机拥有其分区",
    no_room: "主机没有空间运行处理器",
    no_topic_ids: "Broker 不提供主题 ID",
    node_name_taken: "两台主机使用同一节点名",
    older_partition_not_passed: "等待较早的分区",
    outbox_column: "发件箱的某一列有误",
    outbox_database: "发件箱数据库出错",
    outbox_database_missing: "发件箱数据库不存在",
    outbox_full: "发件箱等待空间",
    outbox_locked: "发件箱的表被锁定",
    outbox_login: "发件箱登录被拒绝",
    outbox_permission: "发件箱用户缺少权限",
    outbox_pooler: "发件箱前有连接池代理",
    outbox_read_only: "发件箱数据库只读",
    outbox_slow: "发件箱数据库响应慢",
    outbox_store: "存储未接收发件箱的行",
    outbox_table: "发件箱的表有误",
    outbox_table_missing: "发件箱的表不存在",
    outbox_topic_waits: "某主题的行在等待",
    outbox_unreachable: "发件箱数据库不可达",
    outbox_url: "发件箱 URL 有误",
    parked_full: "停放过多",
    partition_silent: "分区没有响应",
    pauses_unknown: "不知道哪些已暂停",
    start_unknown: "不知道从哪里开始",
    store_away: "存储不可用",
    topic_created_anew: "主题已被重新创建",
    topic_missing: "主题不存在",
    topic_refused: "Kafka 拒绝该主题",
    topic_unavailable: "主题不可用",
    undelivered_full: "未送达的消息过多",
    not_created: "无法创建主题",
  },
});

/** Says a cause; null for a code that this console does not know. */
export function useCause(): (code: string | undefined) => string | null {
  const say = useWords(words);
  return useCallback((code) => (code !== undefined && known(code) ? say(code) : null), [say]);
}

function known(code: string): code is keyof typeof words.en {
  return Object.hasOwn(words.en, code);
}
