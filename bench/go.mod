module github.com/musenai/musen/bench

go 1.26.4
