import { dictionary } from "../../i18n/words";

export const words = dictionary({
  en: {
    title: "Sign in",
    what: "This host asks who you are. Enter a token of its [auth] table; it is exchanged for a cookie that scripts cannot read.",
    token: "Token",
    go: "Sign in",
  },
  zh: {
    title: "登录",
    what: "此主机需要验证身份。请输入其 [auth] 表中的令牌；令牌会换成脚本无法读取的 Cookie。",
    token: "令牌",
    go: "登录",
  },
});
